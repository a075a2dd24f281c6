"""A training killed at any moment and continued ends with the bits of one that was never cut."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crash_disks import Died, DyingDisk, FailingDisk
from stable_baselines3.common.save_util import load_from_pkl
from trainer_runs import DQN, RESETS, Lossy, Opaque, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, read_metadata
from kaggle_manager.errors import CheckpointIncompatible, StorageError
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import determinism, replay_rows
from kaggle_manager.trainer.sb3.action_replay import ActionReplay
from kaggle_manager.trainer.sb3.algorithms import build_model
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.env_state import make_vec_env
from kaggle_manager.trainer.sb3.selftest import curves, prove
from kaggle_manager.trainer.sb3.selftest_cases import CASES, Simulator
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.tensorboard_log import read_points

pytestmark = pytest.mark.slow


# Each with options no other test here has; all of them: scripts/benchmarks/kill_matrix.py
CASES_HERE = ["dqn-replay", "sac", "td3-noise", "ppo-wrapped", "a2c-images", "dqn-code", "maskableppo-replay"]


@pytest.mark.parametrize("case", CASES_HERE)
def test_killed_processes_end_like_one_that_was_never_cut(case: str, tmp_path: Path) -> None:
    proof = prove(case, tmp_path, kills=2, seed=sum(map(ord, case)))
    assert proof.fault == ""
    assert (proof.kills >= 2, proof.kills_in_saves) == (True, 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tree = tmp_path_factory.mktemp("whole") / "tree"
    digests = session(settings(tree, save_every=1000)).digests
    return {**digests, **curves(TrainingTree(tree, "cart"))}


def test_dying_inside_saves_changes_nothing(whole: dict[str, str], tmp_path: Path) -> None:
    counting = DyingDisk(10**9)
    session(settings(tmp_path / "counted"), disk=counting)
    deaths = 0
    for at in np.linspace(1, counting.calls * 0.9, 12).astype(int):
        try:
            outcome = session(settings(tmp_path / "tree"), disk=DyingDisk(int(at)))
            break
        except Died:
            deaths += 1
    else:
        outcome = session(settings(tmp_path / "tree"))
    assert deaths >= 5
    found = {**outcome.digests, **curves(TrainingTree(tmp_path / "tree", "cart"))}
    assert differing(found, whole) == []


def test_a_full_disk_ends_in_a_typed_error_and_the_run_goes_on_from_what_was_saved(
    whole: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="disk is full"):
        session(settings(tmp_path / "tree"), disk=FailingDisk(60, errno.ENOSPC, persistent=True))
    store = CheckpointStore(TrainingTree(tmp_path / "tree", "cart"))
    assert len(store.valid_checkpoints()) == 2
    found = {**session(settings(tmp_path / "tree")).digests, **curves(store.tree)}
    assert differing(found, whole) == []


class SlowDisk(Disk):
    """Takes longer to begin with the replay rows than the training takes to go round the ring."""

    def make_folder(self, path: Path) -> None:
        if path.name == "replay":
            time.sleep(0.4)
        super().make_folder(path)


def test_rows_are_not_overwritten_while_a_slow_disk_has_not_written_them(tmp_path: Path) -> None:
    changes = {"hyperparameters": {**DQN, "buffer_size": 40}, "save_every": 60, "total": 200}
    session(settings(tmp_path / "tree", **changes), max_steps=60, disk=SlowDisk())
    session(settings(tmp_path / "tree", **changes), max_steps=80, disk=SlowDisk())
    store = CheckpointStore(TrainingTree(tmp_path / "tree", "cart"))
    newest, older = store.valid_checkpoints()
    assert (newest.step, older.step) == (140, 120)
    shutil.rmtree(tmp_path / "tree/history")
    for name in newest.paths.values():
        name.unlink()  # the checkpoint written beside the training that went on is the one to continue from
    (tmp_path / "tree/checkpoints/cart_checkpoint_140_steps.manifest.json").unlink()
    outcome = session(settings(tmp_path / "tree", **changes))
    assert outcome.resumed_from == 120
    reference = session(settings(tmp_path / "whole", **{**changes, "save_every": 1000}))
    assert differing(outcome.digests, reference.digests) == []


def chunks_in(segment: bytes) -> int:
    """The number of chunks in a replay segment (see `replay_codec`)."""
    position, found = 0, 0
    while position < len(segment):
        end = position + 4 + int.from_bytes(segment[position : position + 4], "little")
        blocks = json.loads(segment[position + 4 : end])["blocks"]
        position, found = end + sum(block["bytes"] for block in blocks), found + 1
    return found


def test_rows_handed_over_before_a_save_are_the_same_rows(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_rows, "MOST_WAITING_BYTES", 700)
    session(settings(tmp_path / "tree", save_every=100), max_steps=130)
    store = CheckpointStore(TrainingTree(tmp_path / "tree", "cart"))
    (newest, _) = store.valid_checkpoints()
    assert newest.manifest.replay is not None
    chunks = sum(chunks_in((store.tree.replay / ref.name).read_bytes()) for ref in newest.manifest.replay.segments)
    assert chunks > 10, "two saves in eight segments would leave fewer"
    found = {**session(settings(tmp_path / "tree")).digests, **curves(store.tree)}
    assert differing(found, whole) == []


class MeddledDisk(Disk):
    """Somebody deletes, or replaces, what is in the tree right after the save of a step."""

    def __init__(self, step: int, meddle: Callable[[Path], None]) -> None:
        self.step, self.meddle = step, meddle

    def replace(self, source: Path, destination: Path) -> None:
        super().replace(source, destination)
        if destination.name == f"cart_checkpoint_{self.step}_steps.manifest.json":
            self.meddle(destination.parent / "replay")


def delete_a_closed_segment(folder: Path) -> None:
    min(folder.iterdir()).unlink()


def make_a_file_of(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("somebody's notes")


@pytest.mark.filterwarnings("ignore:.*was not made by this project")
@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("meddle", [delete_a_closed_segment, make_a_file_of])
def test_rows_that_vanish_during_a_session_are_written_anew_before_the_next_commit(
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    meddle: Callable[[Path], None],
    at_the_end: bool,
) -> None:
    if not at_the_end:  # there the last save itself shall find it
        monkeypatch.setattr(replay_rows, "MOST_WAITING_BYTES", 700)  # so that they are handed over in parts
    changed = settings(tmp_path / "tree", save_every=48)
    session(changed, max_steps=144 if at_the_end else 200, disk=MeddledDisk(96, meddle))
    assert "All replay rows are written anew" in capsys.readouterr().out
    head = CheckpointStore(TrainingTree(tmp_path / "tree", "cart")).find_latest_checkpoint()
    assert head is not None
    assert head.step == (144 if at_the_end else 200)
    found = {**session(settings(tmp_path / "tree")).digests, **curves(head.tree)}
    assert differing(found, whole) == []


def test_many_short_sessions_end_like_one_and_their_schedules_follow_the_total(
    whole: dict[str, str], tmp_path: Path
) -> None:
    sessions = 0
    while (outcome := session(settings(tmp_path / "tree"), max_steps=45)).kind == "interrupted":
        sessions += 1
        assert outcome.reason == "this session was to train 45 timesteps"
    assert sessions == 6
    found = {**outcome.digests, **curves(TrainingTree(tmp_path / "tree", "cart"))}
    assert differing(found, whole) == []
    (events,) = (tmp_path / "tree/history/tensorboard").iterdir()
    points = read_points(events)
    assert [step for step, name, _ in points if name == "rollout/ep_rew_mean"] == [100, 200, 300]
    assert {"eval/mean_reward", "train/loss", "rollout/exploration_rate"} <= {name for _, name, _ in points}


def test_an_evaluation_is_not_waited_for_when_the_session_must_stop_and_is_done_again(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SessionClock, "why_stop_now", lambda *_: "enough")
        outcome = session(settings(tmp_path / "tree", save_every=75))
    assert (outcome.kind, outcome.reason) == ("interrupted", "enough")
    assert (outcome.step, outcome.counts["evaluations"]) == (200, 0), "200 is saved although it is no multiple of 75"
    found = {**session(settings(tmp_path / "tree")).digests, **curves(TrainingTree(tmp_path / "tree", "cart"))}
    assert differing(found, whole) == []


def test_epsilon_and_learning_rate_go_on_where_they_were(tmp_path: Path) -> None:
    seen: list[tuple[int, float, float]] = []

    def spy(model: Any) -> None:
        rate = model.policy.optimizer.param_groups[0]["lr"]
        seen.append((model.num_timesteps, model.exploration_rate, rate))

    for folder, cuts in (("whole", [None]), ("cut", [150, None])):
        for cut in cuts:
            _with_spy(tmp_path / folder, cut, spy)
    at_step = [entry for entry in seen if entry[0] == 200]
    assert len(at_step) == 2
    assert at_step[0] == at_step[1]
    assert at_step[0][1] == pytest.approx(0.05), "exploration ends at half of the total, not of the session"
    assert at_step[0][2] == pytest.approx(1e-2 + (1e-4 - 1e-2) * 200 / 300)


def _with_spy(tree: Path, cut: int | None, spy: Any) -> None:
    """`spy` sees the model as it is when it is copied for its evaluation."""
    original = Checkpointer.copied
    try:
        Checkpointer.copied = lambda self: (spy(self.training.model), original(self))[1]  # type: ignore
        session(settings(tree), max_steps=cut)
    finally:
        Checkpointer.copied = original  # type: ignore[method-assign]


def test_the_best_model_survives_a_resume_that_only_sees_worse_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaggle_manager.trainer.sb3 import evaluation

    scores = {100: 9.0, 200: 1.0, 300: 2.0}
    monkeypatch.setattr(
        evaluation.Evaluator,
        "__call__",
        lambda self, model, _: evaluation.Evaluation([scores[model.num_timesteps]], [1], 1),
    )
    session(settings(tmp_path / "tree"), max_steps=150)
    session(settings(tmp_path / "tree"))
    best = CheckpointStore(TrainingTree(tmp_path / "tree", "cart")).best()
    assert best is not None
    assert (best.step, best.manifest.score) == (100, 9.0)
    history = np.load(tmp_path / "tree/history/evaluations.npz")
    assert history["timesteps"].tolist() == [100, 200, 300]


def test_a_simulator_that_does_not_repeat_itself_goes_on_inexactly_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(tmp_path / "tree", environment=Simulator)
    session(chosen, max_steps=130)
    monkeypatch.setattr(ActionReplay, "_begin", _begin_differently)
    outcome = session(chosen)
    assert outcome.step == 300
    said = capsys.readouterr().out
    assert (
        "from step 132 the bits are no longer those of an uninterrupted run: the environment could not be put" in said
    )
    assert "(Simulator did not do the same again" in said
    final = CheckpointStore(TrainingTree(tmp_path / "tree", "cart")).final()
    assert final is not None
    assert final.manifest.exact["exact"] == "none"


_begin = ActionReplay._begin


def _begin_differently(self: ActionReplay, options: Any) -> Any:
    self._base_seed += 1
    return _begin(self, options)


@pytest.mark.parametrize(
    ("environment", "why_not_pickled"),
    [(Lossy, "the copy differs 1 steps after it was made"), (Opaque, "there is a socket in here")],
)
def test_an_environment_that_nothing_can_put_back_trains_on_inexactly_and_says_why(
    environment: Any, why_not_pickled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyperparameters = {**DQN, "buffer_size": 300}
    chosen = settings(tmp_path / "tree", environment=environment, hyperparameters=hyperparameters)
    session(chosen, max_steps=100)
    said = capsys.readouterr().out
    assert f"WARNING: resumes of this training cannot be exact: pickling does not restore it ({why_not_pickled})" in (
        said.replace("TypeError: ", "")
    )
    assert "replaying its actions does not either (" in said
    RESETS.clear()
    outcome = session(chosen)
    assert (outcome.kind, outcome.resumed_from, outcome.step) == ("completed", 100, 300)
    assert RESETS[0] is None, "the seed of the first episode would make every session begin with the same one"
    buffer = load_from_pkl(TrainingTree(tmp_path / "tree", "cart").path("final", "replay_buffer"))
    assert buffer.timeouts.nonzero()[0][:4].tolist() == [34, 69, 99, 134], "the open episode ends at the resume"
    told = exactness_told(tmp_path / "tree")
    assert (told["exact"], told["environment"]) == ("none", "none")
    assert why_not_pickled in told["reason"]
    assert "did not do the same again" in told["reason"]


def test_the_end_of_an_episode_at_a_resume_is_known_to_every_later_session(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "tree", environment=Opaque, hyperparameters={**DQN, "buffer_size": 300})
    for _ in range(3):  # none of these is where an episode of 35 steps ends
        session(chosen, max_steps=80)
    session(chosen)
    buffer = load_from_pkl(TrainingTree(tmp_path / "tree", "cart").path("final", "replay_buffer"))
    ends = set(buffer.dones.nonzero()[0].tolist())
    assert ends == {34, 69, 79, 114, 149, 159, 194, 229, 239, 274}
    assert {79, 159, 239} <= set(buffer.timeouts.nonzero()[0].tolist()), "cut off, not over: still bootstrapped"


def test_returns_of_several_steps_survive_a_resume_and_nothing_says_they_are_ignored(tmp_path: Path) -> None:
    """Stable-Baselines3 says so of a model that is loaded with the buffer class it had, though they are kept."""
    ends = {}
    for name, cuts, steps in (("whole", [], 3), ("cut", [90], 3), ("of one step", [], 1)):
        chosen = settings(tmp_path / name, total=200, hyperparameters={**DQN, "n_steps": steps})
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*is ignored.*")
            for cut in cuts:
                session(chosen, max_steps=cut)
            ends[name] = session(chosen).digests
    assert differing(ends["cut"], ends["whole"]) == []
    assert "parameters.policy" in differing(ends["of one step"], ends["whole"]), "they make a difference"


@pytest.mark.parametrize("steps_between", [0, 20])
@pytest.mark.parametrize("ring", [400, 90])
def test_hindsight_rows_of_an_episode_that_was_cut_stay_usable(steps_between: int, ring: int) -> None:
    """Restored by what a session saves: the arrays as the log has them, and the state."""
    case = CASES["dqn-hindsight"]

    def make() -> Any:
        vec = make_vec_env(case.environments.factory, "pickle", 1)
        hyperparameters = {**case.hyperparameters(), "buffer_size": ring}
        return build_model("DQN", case.policy, hyperparameters, vec, seed=1, device="cpu")

    first = make()
    first.learn(103)  # in the middle of an episode of 6 steps
    rows = replay_rows.WaitingRows(first)
    log = {name: array.copy() for name, array in replay_rows.arrays(first).items()}
    rows._capture.restored(replay_rows.arrays(first), replay_rows.rows_written(first))
    replay_rows.end_open_episodes(first)
    if steps_between:
        first.learn(steps_between, reset_num_timesteps=False)
    new = rows.all()
    assert new is not None
    position = new.first_row
    for stretch in new.stretches:
        for name, values in stretch.items():
            log[name][(position + np.arange(len(values))) % ring] = values
        position += len(next(iter(stretch.values())))
    for name, (where, values) in new.rewritten.items():
        log[name][where] = values
    state = pickle.loads(pickle.dumps(replay_rows.collect(first)))
    again = make()
    again.num_timesteps = first.num_timesteps
    for name, array in replay_rows.arrays(again).items():
        array[:] = log[name]
    replay_rows.restore(again, state)
    for name, array in replay_rows.arrays(again).items():
        if name in ("dones", "timeouts", "ep_start", "ep_length"):
            assert np.array_equal(array, replay_rows.arrays(first)[name]), name


@pytest.mark.parametrize("case", ["dqn", "dqn-hindsight", "sac-n-step"])
def test_transitions_do_not_lead_from_an_episode_that_cannot_be_continued_into_the_next(case: str) -> None:
    chosen = CASES[case]
    vec = chosen.environments.vectorised("pickle", 1)
    model: Any = build_model(chosen.algorithm_name, chosen.policy, chosen.hyperparameters(), vec, seed=1, device="cpu")
    model.learn(81 * vec.num_envs)
    buffer = model.replay_buffer
    terminated = buffer.dones[buffer.pos - 1] * (1 - buffer.timeouts[buffer.pos - 1])
    replay_rows.end_open_episodes(model)
    assert (buffer.dones[buffer.pos - 1] == 1).all()
    assert (buffer.dones[buffer.pos - 1] * (1 - buffer.timeouts[buffer.pos - 1]) == terminated).all()
    if case == "dqn-hindsight":
        assert (buffer._current_ep_start == buffer.pos).all()


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(determinism, "THREADS", 2)
    yield
    torch.set_num_threads(1)


def exactness_told(tree: Path) -> dict[str, Any]:
    """What the final manifest and the metadata say, which must be the same."""
    final = CheckpointStore(TrainingTree(tree, "cart")).final()
    metadata = read_metadata(TrainingTree(tree, "cart").metadata)
    assert final is not None
    assert metadata is not None
    assert final.manifest.exact["broken"] == metadata.exact["broken"]
    assert final.manifest.exact["exact"] == metadata.exact["exact"]
    return metadata.exact


def test_other_threads_go_on_and_say_from_which_step_bits_are_no_longer_promised(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    session(settings(tmp_path / "tree"), max_steps=100)
    request.getfixturevalue("two_threads")
    session(settings(tmp_path / "tree"), max_steps=100)
    session(settings(tmp_path / "tree"))  # under the same as before: nothing new to say
    said = capsys.readouterr().out
    why = "the arithmetic changed: threads: 1 -> 2"
    assert said.count(f"WARNING: from step 100 the bits are no longer those of an uninterrupted run: {why}.") == 1
    told = exactness_told(tmp_path / "tree")
    assert told["broken"] == [{"step": 100, "why": why}]
    assert (told["exact"], told["environment"]) == ("none", "pickle")
    assert told["arithmetic"]["threads"] == 2


def test_another_instruction_set_goes_on_and_says_so(tmp_path: Path) -> None:
    first = session(settings(tmp_path / "tree"), max_steps=200)
    assert first.step == 200
    arithmetic_before = origin_of(tmp_path / "tree").record.arithmetic  # type: ignore[union-attr]
    if arithmetic_before["instruction_set"] == "DEFAULT":
        pytest.skip("no other instruction set here")
    program = "import sys, trainer_runs as r; from pathlib import Path; r.session(r.settings(Path(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tree")],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING: from step 200 the bits are no longer those of an uninterrupted run: the arithmetic changed" in (
        done.stdout
    )
    told = exactness_told(tmp_path / "tree")
    assert [entry["step"] for entry in told["broken"]] == [200]
    why = told["broken"][0]["why"]
    assert "instruction_set: " in why
    assert "probe: " in why, "the fixed computation itself comes out differently"
    assert told["arithmetic"]["instruction_set"] == "DEFAULT"


def test_a_seed_that_was_not_given_is_drawn_once_and_kept(tmp_path: Path) -> None:
    session(settings(tmp_path / "tree", seed=None), max_steps=50)
    first, second = origin_of(tmp_path / "tree"), settings(tmp_path / "tree", seed=None)
    assert first.record is not None
    session(second)
    again = origin_of(tmp_path / "tree")
    assert again.record is not None
    assert again.record.seed == first.record.seed
    assert again.checkpoint is not None
    assert again.checkpoint.manifest.identity["seed"] == first.record.seed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hyperparameters": {"policy_kwargs": {"net_arch": [16]}}}, r"Architecture: checkpoint=\[8\], current=\[16\]"),
        ({"algorithm": "A2C", "hyperparameters": {}}, "Algorithm: checkpoint=DQN, current=A2C"),
        (
            {"identity": {"environment_fingerprint": "x", "reward_fingerprint": "test"}},
            "Sources of the environment: changed",
        ),
    ],
)
def test_another_experiments_checkpoint_is_refused_with_every_difference(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    session(settings(tmp_path / "tree"), max_steps=50)
    before = sorted((tmp_path / "tree/checkpoints").iterdir())
    with pytest.raises(CheckpointIncompatible, match=said):
        session(settings(tmp_path / "tree", **change))
    assert sorted((tmp_path / "tree/checkpoints").iterdir()) == before
