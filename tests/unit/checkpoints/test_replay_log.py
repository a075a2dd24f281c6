"""The replay log gives back byte-identical arrays, for Stable-Baselines3's own buffers, and writes only what is new."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaggle_manager.checkpoints import CheckpointStore, Disk, Lineage, TrainingTree, replay_files
from kaggle_manager.checkpoints.manifest import ReplayCommit
from kaggle_manager.checkpoints.replay_capture import ReplayCapture
from kaggle_manager.checkpoints.replay_log import SEGMENTS_PER_RING, ReplayLog, RowsGone, load
from kaggle_manager.errors import CheckpointCorrupt, StorageError
from kaggle_manager.system.files import sha256_bytes

spaces = pytest.importorskip("gymnasium.spaces")
buffers = pytest.importorskip("stable_baselines3.common.buffers")
her = pytest.importorskip("stable_baselines3.her.her_replay_buffer")

Arrays = dict[str, np.ndarray[Any, Any]]

BOX = spaces.Box(-1, 1, (3,), np.float32)
FRAMES = spaces.Box(0, 255, (2, 5, 5), np.uint8)
GOALS = spaces.Dict({"observation": BOX, "achieved_goal": spaces.Box(-1, 1, (2,), np.float64), "desired_goal": BOX})
PLAIN = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "ep_start", "ep_length")


def plain_buffer(capacity: int, n_envs: int) -> Any:
    return buffers.ReplayBuffer(capacity * n_envs, BOX, spaces.Discrete(3), "cpu", n_envs)


def frugal_buffer(capacity: int, n_envs: int) -> Any:
    options = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    return buffers.ReplayBuffer(capacity * n_envs, FRAMES, BOX, "cpu", n_envs, **options)


def dictionary_buffer(capacity: int, n_envs: int) -> Any:
    return buffers.DictReplayBuffer(capacity * n_envs, GOALS, BOX, "cpu", n_envs)


def hindsight_buffer(capacity: int, n_envs: int) -> Any:
    return her.HerReplayBuffer(capacity * n_envs, GOALS, BOX, env=None, device="cpu", n_envs=n_envs)


def arrays_of(buffer: Any) -> Arrays:
    found: Arrays = {}
    for name in PLAIN:
        value = getattr(buffer, name, None)
        if isinstance(value, dict):
            found.update({f"{name}.{key}": array for key, array in value.items()})
        elif value is not None:
            found[name] = value
    return found


class Log:
    """What is new in a ring's arrays, and the log it goes to, as a trainer and its writing process have them."""

    def __init__(self, folder: Path, arrays: Arrays, disk: Disk | None = None) -> None:
        self.folder, self.arrays = folder, arrays
        shared = {name: name.replace("next_", "") for name in arrays if name.startswith("next_")}
        self.rewritten = [name for name in ("ep_start", "ep_length") if name in arrays]
        self.capture = ReplayCapture(shared=shared, rewritten=self.rewritten)
        self.log = ReplayLog(folder, disk=disk)

    def append(self, rows: int) -> ReplayCommit:
        return self.log.write(self.capture.take(self.arrays, rows=rows))

    def load(self, commit: ReplayCommit) -> None:
        load(self.folder, commit, self.arrays, in_order=bool(self.rewritten))
        self.capture.restored(self.arrays, commit.rows)
        self.log.resume(commit)


class Player:
    """Fills a buffer the way an off-policy algorithm does, with episodes that end at random."""

    def __init__(self, buffer: Any, seed: int) -> None:
        self.buffer, self.luck, self.rows = buffer, np.random.default_rng(seed), 0
        self.last = self._observation()

    def _observation(self) -> Any:
        def draw(space: Any) -> Any:
            shape = (self.buffer.n_envs, *space.shape)
            return (self.luck.random(shape) * 200).astype(space.dtype)

        space = self.buffer.observation_space
        return {key: draw(space[key]) for key in space.spaces} if isinstance(space, spaces.Dict) else draw(space)

    def play(self, steps: int) -> None:
        environments = self.buffer.n_envs
        for _ in range(steps):
            following, reset = self._observation(), self._observation()
            done = self.luck.random(environments) < 0.15
            infos = [{"TimeLimit.truncated": bool(over and self.luck.random() < 0.5)} for over in done]
            action = np.zeros((environments, self.buffer.action_dim), np.float32)
            reward = self.luck.standard_normal(environments).astype(np.float32)
            self.buffer.add(self.last, following, action, reward, done, infos)
            self.last = self._mix(following, reset, done)
            self.rows += 1

    @staticmethod
    def _mix(following: Any, reset: Any, done: Any) -> Any:
        """After the end of an episode the next observation is not the one that was stored."""
        if isinstance(following, dict):
            return {key: Player._mix(following[key], reset[key], done) for key in following}
        return np.where(done.reshape(-1, *[1] * (following.ndim - 1)), reset, following)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("make", [plain_buffer, frugal_buffer, dictionary_buffer, hindsight_buffer])
def test_restore_is_byte_identical_at_every_checkpoint_across_sessions(tmp_path: Path, make: Any, n_envs: int) -> None:
    capacity, luck = 40, random.Random(n_envs)
    player = Player(make(capacity, n_envs), seed=7)
    live = arrays_of(player.buffer)
    log = Log(tmp_path, live)
    for turn in range(25):
        before = player.rows
        player.play(luck.choice([1, 2, 5, 9, 17, 39]))  # the ring turns about eight times
        for upto in sorted(luck.sample(range(before, player.rows), k=min(turn % 3, player.rows - before))):
            log.log.write(log.capture.take(live, rows=player.rows, upto=upto))  # ahead of the checkpoint
        commit = log.append(player.rows)
        restored = arrays_of(make(capacity, n_envs))
        again = Log(tmp_path, restored)
        again.load(commit)
        for name, array in live.items():
            assert restored[name].tobytes() == array.tobytes(), f"{name} at {player.rows} rows"
        assert len(commit.segments) <= SEGMENTS_PER_RING + 2
        if turn % 3 == 0:
            log = again  # the next session goes on from what it loaded, with the same training
            log.arrays = live


class StackedPlayer(Player):
    """Sees stacks of frames, as an agent that plays Atari does."""

    def __init__(self, buffer: Any, seed: int, channels: int) -> None:
        self.channels = channels
        super().__init__(buffer, seed)

    def _observation(self) -> Any:
        """An image whose oldest frame is gone and whose newest is new; some are new altogether."""
        drawn = super()._observation()
        if self.rows_seen:
            kept = self.luck.random(len(drawn)) < 0.95
            drawn[kept, : -self.channels] = self.seen[kept, self.channels :]
        self.rows_seen, self.seen = True, drawn
        return drawn

    rows_seen = False
    seen: Any = None

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.seen = self.last
            super().play(1)


@pytest.mark.parametrize("frugal", [False, True])
@pytest.mark.parametrize(("channels", "n_envs"), [(1, 1), (1, 3), (3, 1), (3, 2)])
def test_stacks_of_frames_come_back_byte_identical_and_each_frame_is_stored_about_once(
    tmp_path: Path, channels: int, n_envs: int, frugal: bool
) -> None:
    stack, side, capacity = 4, 24, 64
    space = spaces.Box(0, 255, (stack * channels, side, side), np.uint8)
    options = {"optimize_memory_usage": True, "handle_timeout_termination": False} if frugal else {}

    def make() -> Any:
        return buffers.ReplayBuffer(capacity * n_envs, space, spaces.Discrete(3), "cpu", n_envs, **options)

    player = StackedPlayer(make(), 5, channels)
    live = arrays_of(player.buffer)
    log = Log(tmp_path, live)
    for steps in (1, 40, 3, 30, 45, 7):  # the ring turns
        player.play(steps)
        commit = log.append(player.rows)
        restored = arrays_of(make())
        Log(tmp_path, restored).load(commit)
        for name, array in live.items():
            assert restored[name].tobytes() == array.tobytes(), f"{name} at {player.rows} rows"
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    whole = player.rows * sum(array[0].nbytes for array in live.values())
    assert written < (0.75 if frugal else 0.5) * whole, "a quarter, and what had to be whole"


def test_older_commits_stay_loadable_while_their_segments_are_there(tmp_path: Path) -> None:
    player = Player(plain_buffer(32, 1), seed=1)
    log = Log(tmp_path, arrays_of(player.buffer))
    history = []
    for _ in range(12):
        player.play(7)
        live = arrays_of(player.buffer)
        history.append((log.append(player.rows), {name: array.tobytes() for name, array in live.items()}))
    for commit, expected in history:
        restored = arrays_of(plain_buffer(32, 1))
        Log(tmp_path, restored).load(commit)
        assert {name: array.tobytes() for name, array in restored.items()} == expected


def test_the_bytes_written_follow_the_new_rows_not_the_buffer(tmp_path: Path) -> None:
    written = []
    for capacity in (2_000, 200_000):
        arrays = {"observations": np.zeros((capacity, 1, 26), np.float32)}
        arrays["next_observations"] = arrays["observations"].copy()
        log = Log(tmp_path / str(capacity), arrays)
        log.append(100)
        before = sum(path.stat().st_size for path in (tmp_path / str(capacity)).iterdir())
        log.append(200)
        written.append(sum(path.stat().st_size for path in (tmp_path / str(capacity)).iterdir()) - before)
    assert abs(written[0] - written[1]) < 16, "the capacity is written in digits"
    assert written[0] < 1.3 * 100 * 26 * 4, "next_observations is stored as a bit where it follows"


def test_a_run_of_over_a_million_transitions_leaves_fewer_than_thirty_files(tmp_path: Path) -> None:
    capacity, total, every = 1_000_000, 1_300_000, 2_000
    tree = TrainingTree(tmp_path / "models", "traffic")
    store = CheckpointStore(tree, warn=pytest.fail)
    common: Any = {"target": total, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": ""}
    arrays = {"rewards": np.zeros((capacity, 1), np.float32)}
    log = Log(tree.replay, arrays)
    most, kept = 0, set[str]()
    for rows in range(every, total + 1, every):
        arrays["rewards"][np.arange(rows - every, rows) % capacity, 0] = np.arange(rows - every, rows)
        commit = log.append(rows)
        names = {ref.name for ref in commit.segments}
        replay_files.drop_unneeded(tree.replay, names | kept, Disk())  # as the store does when it has committed
        most, kept = max(most, len(list(tree.replay.iterdir()))), names
        if rows > total - 3 * every:
            store.save_latest(step=rows, files={"model": b"model", "state": b"state"}, replay=commit, **common)
    store.save_best(score=1.0, step=total, files={"model": b"best"}, **common)
    final = {"model": b"model", "replay_buffer": b"replay"}
    store.save_final(step=total, files=final, **common)
    assert most <= SEGMENTS_PER_RING + 2
    elsewhere = sum(path.is_file() and path.parent != tree.replay for path in tree.root.rglob("*"))
    curves_and_metadata = 4
    assert elsewhere + most + curves_and_metadata < 30
    restored = {"rewards": np.zeros((capacity, 1), np.float32)}
    head = store.find_latest_checkpoint()
    assert head is not None
    assert head.manifest.replay is not None
    load(tree.replay, head.manifest.replay, restored, verified=True)
    assert restored["rewards"].tobytes() == arrays["rewards"].tobytes()


def test_a_whole_full_buffer_can_be_taken_in_at_once(tmp_path: Path) -> None:
    player = Player(plain_buffer(64, 2), seed=3)
    player.play(150)
    live, restored = arrays_of(player.buffer), arrays_of(plain_buffer(64, 2))
    commit = Log(tmp_path, live).append(player.rows)
    Log(tmp_path, restored).load(commit)
    assert all(restored[name].tobytes() == live[name].tobytes() for name in live)


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    player = Player(plain_buffer(16, 1), seed=4)
    player.play(5)
    log = Log(tmp_path, arrays_of(player.buffer))
    first = log.append(5)
    assert log.append(5) == first


def test_a_log_never_writes_over_the_segments_of_another(tmp_path: Path) -> None:
    player = Player(plain_buffer(16, 1), seed=5)
    player.play(3)
    live = arrays_of(player.buffer)
    first = Log(tmp_path, live).append(3)
    kept = (tmp_path / first.segments[0].name).read_bytes()
    second = Log(tmp_path, live).append(3)
    assert first.segments[0].name != second.segments[0].name
    assert (tmp_path / first.segments[0].name).read_bytes() == kept


def test_a_buffer_of_another_shape_is_refused(tmp_path: Path) -> None:
    player = Player(plain_buffer(16, 1), seed=6)
    player.play(3)
    live = arrays_of(player.buffer)
    commit = Log(tmp_path, live).append(3)
    with pytest.raises(CheckpointCorrupt, match="16"):
        load(tmp_path, commit, arrays_of(plain_buffer(8, 1)))
    with pytest.raises(CheckpointCorrupt, match="does not fit"):
        load(tmp_path, commit, {name: array.astype("f8") for name, array in live.items()})


def test_a_commit_that_ends_within_a_chunk_is_refused(tmp_path: Path) -> None:
    player = Player(plain_buffer(16, 1), seed=6)
    player.play(3)
    live = arrays_of(player.buffer)
    commit = Log(tmp_path, live).append(3)
    *others, last = commit.segments
    cut = (tmp_path / last.name).read_bytes()[: last.length - 5]
    lying = replace(commit, segments=(*others, replace(last, length=len(cut), sha256=sha256_bytes(cut))))
    with pytest.raises(CheckpointCorrupt, match="its last chunk ends at byte"):
        load(tmp_path, lying, arrays_of(plain_buffer(16, 1)))


def test_python_objects_and_going_back_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Python objects"):
        ReplayCapture().take({"infos": np.zeros((4, 1), object)}, rows=1)
    log = Log(tmp_path, {"rewards": np.zeros((4, 1))})
    new = log.capture.take(log.arrays, rows=3)
    log.log.write(new)
    with pytest.raises(ValueError, match="cannot be 2"):
        log.capture.take(log.arrays, rows=2)
    with pytest.raises(ValueError, match="in the log already"):
        log.log.write(replace(new, rows=4))


def test_a_disk_without_room_is_refused_before_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, {"rewards": np.zeros((4, 1))})
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(StorageError, match="10 bytes free"):
        log.append(3)
    assert not list(tmp_path.iterdir())


def test_a_write_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    class FullOnce(Disk):
        full = True

        def sync(self, path: Path) -> None:
            self.full, was = False, self.full
            if was:
                raise OSError(errno.ENOSPC, "no space")
            super().sync(path)

    player = Player(plain_buffer(16, 1), seed=8)
    player.play(5)
    live, restored = arrays_of(player.buffer), arrays_of(plain_buffer(16, 1))
    log = Log(tmp_path, live, FullOnce())
    new = log.capture.take(live, rows=5)
    with pytest.raises(StorageError, match="full"):
        log.log.write(new)
    Log(tmp_path, restored).load(log.log.write(new))
    assert all(restored[name].tobytes() == live[name].tobytes() for name in live)


def delete(segment: Path) -> None:
    segment.unlink()


def cut(segment: Path) -> None:
    os.truncate(segment, segment.stat().st_size - 1)


def make_a_folder_of(segment: Path) -> None:
    segment.unlink()
    segment.mkdir()


def delete_the_folder(segment: Path) -> None:
    shutil.rmtree(segment.parent)


def make_a_file_of_the_folder(segment: Path) -> None:
    shutil.rmtree(segment.parent)
    segment.parent.write_text("somebody's notes")


@pytest.mark.filterwarnings("ignore:.*was not made by this project")
@pytest.mark.parametrize("which", [0, -1], ids=["a closed segment", "the open one"])
@pytest.mark.parametrize(
    "meddle",
    [delete, cut, make_a_folder_of, delete_the_folder, make_a_file_of_the_folder],
    ids=lambda each: each.__name__,
)
def test_rows_that_somebody_took_away_are_noticed_and_written_anew(
    tmp_path: Path, meddle: Callable[[Path], None], which: int
) -> None:
    folder, player = tmp_path / "replay", Player(hindsight_buffer(40, 2), seed=8)
    live, log = arrays_of(player.buffer), Log(folder, arrays_of(player.buffer))
    player.play(33)
    meddle(folder / log.append(33).segments[which].name)
    player.play(20)
    new = log.capture.take(live, rows=53)
    with pytest.raises(RowsGone, match="was deleted or cut by another program"):
        log.log.write(new)
    log.capture = ReplayCapture(rewritten=log.rewritten)
    commit = log.append(53)
    restored = arrays_of(hindsight_buffer(40, 2))
    Log(folder, restored).load(commit)
    assert all(restored[name].tobytes() == live[name].tobytes() for name in live)


@pytest.mark.parametrize("batch", [3, 9], ids=["into a segment that is there", "into a new one"])
def test_rows_that_do_not_read_back_are_no_commit_and_the_one_before_still_loads(tmp_path: Path, batch: int) -> None:
    class Lies(Disk):
        """Calls written what is not."""

        lies = False

        def write_at(self, path: Path, offset: int, data: bytes) -> None:
            super().write_at(path, offset, data[:-1] + bytes([data[-1] ^ 1]) if self.lies else data)

    disk = Lies()
    player = Player(plain_buffer(64, 1), seed=8)
    live = arrays_of(player.buffer)
    log = Log(tmp_path, live, disk)
    player.play(5)
    committed = log.append(5)
    expected = {name: array.copy() for name, array in live.items()}
    player.play(batch)
    new = log.capture.take(live, rows=5 + batch)
    disk.lies = True
    with pytest.raises(CheckpointCorrupt, match=r"segment_\d+\.bin does not read back") as damaged:
        log.log.write(new)
    assert damaged.value.safe
    restored = arrays_of(plain_buffer(64, 1))
    Log(tmp_path, restored).load(committed)
    assert all(restored[name].tobytes() == expected[name].tobytes() for name in expected)
    disk.lies = False
    Log(tmp_path, restored).load(log.log.write(new))
    assert all(restored[name].tobytes() == live[name].tobytes() for name in live)
