"""A flipped bit, a cut, a zeroed page or a lost file never becomes wrong bytes: the older checkpoint, or an error."""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path
from typing import Any

import crash_workload as workload
import pytest
from crash_workload import CAPACITY, SCENARIO, mixed, ring, rows_at

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, atomic_slot, replay_files
from kaggle_manager.checkpoints.replay_log import load
from kaggle_manager.errors import CheckpointCorrupt, StorageError

FLIPS_PER_FILE = 12


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody saves beside these readers."""
    monkeypatch.setattr(atomic_slot, "LOOKS_AGAIN_S", ())


@pytest.fixture
def tree(quick_folder: Path) -> TrainingTree:
    workload.run(quick_folder / "models", Disk(), workload.Promises(), acknowledge=lambda: None)
    return TrainingTree(quick_folder / "models", SCENARIO)


def store_of(tree: TrainingTree) -> tuple[CheckpointStore, list[str]]:
    warned: list[str] = []
    return CheckpointStore(tree, warn=warned.append), warned


def copies_with_a_flip(tree: TrainingTree, path: Path) -> list[TrainingTree]:
    """Return copies of the tree, each with another bit of `path` flipped."""
    name, size = path.relative_to(tree.root), path.stat().st_size
    positions = random.Random(str(name)).sample(range(size * 8), FLIPS_PER_FILE)
    damaged = []
    for position in positions:
        root = tree.root.with_name(f"flip_{name.name}_{position}")
        shutil.copytree(tree.root, root)
        data = bytearray((root / name).read_bytes())
        data[position // 8] ^= 1 << (position % 8)
        (root / name).write_bytes(data)
        damaged.append(TrainingTree(root, tree.scenario))
    return damaged


def newest_files(tree: TrainingTree) -> list[Path]:
    head = CheckpointStore(tree).find_latest_checkpoint()
    assert head is not None
    return [head.model_path, head.path("state"), tree.checkpoints / tree.manifest_name("latest", head.step)]


def test_a_flipped_bit_in_the_newest_checkpoint_means_the_older_one_loudly(tree: TrainingTree) -> None:
    for path in newest_files(tree):
        for damaged in copies_with_a_flip(tree, path):
            store, warned = store_of(damaged)
            assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [2]
            found = store.claim_latest_checkpoint()
            assert found is not None
            assert (found.step, mixed(found)) == (2, [])
            assert len(warned) == 2, warned
            kept = {file.name for file in damaged.quarantine.rglob("*") if file.is_file()}
            assert path.name in kept
            assert "reason.txt" in kept


def segments_of(tree: TrainingTree) -> tuple[set[str], set[str]]:
    """The replay segments that only the newest checkpoint needs, and those that both need."""
    newest, older = (
        {ref.name for ref in checkpoint.manifest.replay.segments}
        for checkpoint in CheckpointStore(tree).valid_checkpoints()
        if checkpoint.manifest.replay is not None
    )
    assert newest - older
    assert newest & older
    return newest - older, newest & older


def test_a_flipped_bit_in_rows_of_the_newest_alone_means_the_older_one_loudly(tree: TrainingTree) -> None:
    for name in segments_of(tree)[0]:
        for damaged in copies_with_a_flip(tree, tree.replay / name):
            store, warned = store_of(damaged)
            found = store.claim_latest_checkpoint()
            assert found is not None
            assert (found.step, mixed(found)) == (2, [])
            assert name in warned[0]
            assert "quarantine" in warned[0]


def test_a_flipped_bit_in_rows_of_both_is_an_error_that_stays_until_the_rows_are_put_back(tree: TrainingTree) -> None:
    """The one damage that an older checkpoint cannot help: nothing is moved, and no call begins again from zero."""
    for name in segments_of(tree)[1]:
        for damaged in copies_with_a_flip(tree, tree.replay / name):
            store, warned = store_of(damaged)
            before = sorted(path for path in damaged.root.rglob("*"))
            for _ in range(2):
                store.recover()
                with pytest.raises(CheckpointCorrupt, match=f"{name} .rows") as caught:
                    store.claim_latest_checkpoint()
                assert "--fresh" in caught.value.next_step
            assert sorted(path for path in damaged.root.rglob("*")) == before
            assert warned == []
            shutil.copy(tree.replay / name, damaged.replay / name)  # from any copy of the tree
            found = store.find_latest_checkpoint()
            assert found is not None
            assert (found.step, mixed(found)) == (3, [])


@pytest.mark.parametrize("name", ["best", "final"])
def test_a_flipped_bit_in_best_or_final_is_noticed(tree: TrainingTree, name: str) -> None:
    paths = {
        "best": [tree.best_model, tree.best_folder / tree.manifest_name("best")],
        "final": [tree.final, tree.path("final", "replay_buffer"), tree.root / tree.manifest_name("final")],
    }[name]
    for path in paths:
        for damaged in copies_with_a_flip(tree, path):
            store, warned = store_of(damaged)
            assert (store.best() if name == "best" else store.final()) is None
            assert "SHA-256 differs" in warned[0] or "manifest is damaged" in warned[0]


@pytest.mark.parametrize("damage", ["cut", "zeroed", "removed", "emptied"])
def test_gross_damage_to_any_file_of_the_newest_means_the_older(tree: TrainingTree, damage: str) -> None:
    for path in newest_files(tree):
        kept = path.read_bytes()
        match damage:
            case "cut":
                path.write_bytes(kept[:-1])
            case "zeroed":
                path.write_bytes(bytes(len(kept)))
            case "removed":
                path.unlink()
            case "emptied":
                path.write_bytes(b"")
        root = tree.root.with_name(f"{damage}_{path.suffix}")
        shutil.copytree(tree.root, root)
        store, _ = store_of(TrainingTree(root, SCENARIO))
        found = store.find_latest_checkpoint()
        assert found is not None
        assert (found.step, mixed(found)) == (2, [])
        path.write_bytes(kept)


@pytest.mark.parametrize("damage", ["emptied", "removed"])
def test_lost_rows_of_both_are_named_and_nothing_starts_from_zero(tree: TrainingTree, damage: str) -> None:
    name = min(segments_of(tree)[1])
    (tree.replay / name).write_bytes(b"") if damage == "emptied" else (tree.replay / name).unlink()
    store, _ = store_of(tree)
    for _ in range(2):
        store.recover()
        with pytest.raises(CheckpointCorrupt, match=f"{name} .rows"):
            store.find_latest_checkpoint()


def test_junk_behind_the_committed_tail_is_ignored_and_then_cut(tree: TrainingTree) -> None:
    store, warned = store_of(tree)
    head = store.valid_checkpoints()[0]
    assert head.manifest.replay is not None
    tail = head.manifest.replay.segments[-1]
    path = tree.replay / tail.name
    path.write_bytes(path.read_bytes() + b"half a chunk")
    assert store.find_latest_checkpoint() == head
    log, step = workload.resume_log(store)
    workload.save(store, log, step + 1)
    workload.save(store, log, step + 2)
    assert [problem for checkpoint in store.valid_checkpoints() for problem in mixed(checkpoint)] == []
    assert warned == []


def test_loading_verifies_by_itself(tree: TrainingTree) -> None:
    head = CheckpointStore(tree).valid_checkpoints()[0]
    assert head.manifest.replay is not None
    path = tree.replay / head.manifest.replay.segments[0].name
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(CheckpointCorrupt, match=path.name):
        load(tree.replay, head.manifest.replay, ring(0, CAPACITY))
    assert rows_at(head.step) == head.manifest.replay.rows


class BadSector(Disk):
    """A disk that never again gives the bytes of one file."""

    def __init__(self, path: Path) -> None:
        self.inode = path.stat().st_ino

    def read(self, path: Path) -> bytes:
        self._refuse(path)
        return super().read(path)

    def sha256(self, path: Path, length: int) -> Any:
        self._refuse(path)
        return super().sha256(path, length)

    def _refuse(self, path: Path) -> None:
        if path.exists() and path.stat().st_ino == self.inode:
            raise OSError(errno.EIO, "Input/output error", str(path))


def test_a_file_the_disk_refuses_to_read_does_not_stop_the_training(tree: TrainingTree) -> None:
    for path in [*newest_files(tree), tree.replay / "segment_000000000006.bin"]:
        root = tree.root.with_name(f"bad_sector_{path.suffix}")
        shutil.copytree(tree.root, root)
        moved = TrainingTree(root, SCENARIO)
        warned: list[str] = []
        store = CheckpointStore(moved, disk=BadSector(root / path.relative_to(tree.root)), warn=warned.append)
        log, step = workload.resume_log(store)
        assert step == 2, path.name
        assert path.name in " ".join(warned) or moved.manifest_name("latest", 3) in " ".join(warned)
        workload.save(store, log, step + 1)
        workload.save(store, log, step + 2)
        assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [4, 3]


def test_a_best_model_that_cannot_be_read_is_not_replaced(tree: TrainingTree) -> None:
    store = CheckpointStore(tree, disk=BadSector(tree.best_model), warn=pytest.fail)
    with pytest.raises(StorageError):
        workload.save_best(store, 9, 1000.0)
    assert store_of(tree)[0].best() is not None


@pytest.mark.parametrize("most", [1 << 30, 10], ids=["small", "larger than what is kept"])
def test_a_checkpoint_in_quarantine_keeps_its_rows_or_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(replay_files, "MOST_KEPT_BYTES", most)
    tree, warned = TrainingTree(tmp_path / "models", workload.SCENARIO), []
    store = CheckpointStore(tree, warn=warned.append)
    log, _ = workload.resume_log(store)
    for step in (1, 2):
        newest = workload.save(store, log, step)
    newest.model_path.write_bytes(b"damaged")
    log, step = workload.resume_log(store)
    assert step == 1
    for step in (2, 3, 4, 5):  # the ring turns: of the rows of that time, none is in the log any more
        workload.save(store, log, step)
    [folder] = tree.quarantine.iterdir()
    assert "replay rows" in warned[0]
    if most == 10:
        assert not (folder / "replay").exists()
        return
    arrays = workload.ring(0)
    assert newest.manifest.replay is not None
    load(folder / "replay", newest.manifest.replay, arrays)
    expected = workload.ring(workload.rows_at(2))
    assert all(arrays[name].tobytes() == expected[name].tobytes() for name in expected)
