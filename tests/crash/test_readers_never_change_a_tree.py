"""Looking and mending are two things: whoever does not hold a tree reads it as it is, beside a trainer that saves."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import crash_workload as workload
import pytest
from crash_disks import Died, DyingDisk, WatchedDisk

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, atomic_slot, search
from kaggle_manager.checkpoints.file_list import list_files
from kaggle_manager.errors import CheckpointCorrupt, KaggleManagerError
from kaggle_manager.trees.inspect import look_at, verify_tree

ROOT = Path(__file__).resolve().parents[2]

READERS: dict[str, Callable[[CheckpointStore], object]] = {
    "latest": lambda store: store.find_latest_checkpoint(),
    "valid": lambda store: store.valid_checkpoints(),
    "best": lambda store: store.best(),
    "final": lambda store: store.final(),
    "inspect": lambda store: look_at(store.tree),
    "verify": lambda store: verify_tree(store.tree),
    "list": lambda store: list_files(store.tree, store._disk),
}


def live(tree: TrainingTree, disk: Disk | None = None) -> None:
    workload.run(tree.root, disk or Disk(), workload.Promises(), acknowledge=lambda: None)


def bytes_below(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_by_everyone(tree: TrainingTree) -> list[str]:
    """Every reader looks; return what they warned of or raised."""
    said: list[str] = []
    store = CheckpointStore(tree, warn=said.append)
    for look in READERS.values():
        try:
            look(store)
        except KaggleManagerError as error:
            said.append(error.message)
    return said


def test_no_reader_changes_a_tree_whatever_instant_of_a_save_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_slot, "LOOKS_AGAIN_S", ())
    counting = DyingDisk(10**9)
    live(TrainingTree(tmp_path / "whole", workload.SCENARIO), counting)
    for at in range(0, counting.calls, 7):
        tree = TrainingTree(tmp_path / f"cut_{at}/models", workload.SCENARIO)
        with pytest.raises(Died):
            live(tree, DyingDisk(at))
        before = bytes_below(tree.root.parent)
        read_by_everyone(tree)
        assert bytes_below(tree.root.parent) == before, f"cut at call {at}"


def test_no_reader_moves_what_is_damaged_and_the_owner_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_slot, "LOOKS_AGAIN_S", ())
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)
    newest = CheckpointStore(tree).valid_checkpoints()[0]
    for path in (newest.model_path, tree.best_model, tree.final):
        path.write_bytes(path.read_bytes()[:-1])
    before = bytes_below(tmp_path)
    said = " ".join(read_by_everyone(tree))
    assert bytes_below(tmp_path) == before
    for path in (newest.model_path, tree.best_model, tree.final):
        assert path.name in said, "damage is said, though nothing is moved"
    owner = CheckpointStore(tree, warn=lambda _: None)
    head = owner.claim_latest_checkpoint()
    assert head is not None
    assert head.step < newest.step
    assert not newest.model_path.exists()
    assert list(tree.quarantine.glob(f"*/{newest.model_path.name}"))


def test_a_reader_leaves_a_cut_restore_to_the_owner_and_calls_it_no_empty_tree(tmp_path: Path) -> None:
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)
    tree.root.rename(tmp_path / "models.ready")
    before = bytes_below(tmp_path)
    with pytest.raises(CheckpointCorrupt, match="interrupted before its last step"):
        CheckpointStore(tree).find_latest_checkpoint()
    assert bytes_below(tmp_path) == before
    assert CheckpointStore(tree).claim_latest_checkpoint() is not None


class Interrupting(WatchedDisk):
    """Lets its owner work between two reads of a reader: before the n-th, counted from 0."""

    def __init__(self, at: int, work: Callable[[], object]) -> None:
        self.at, self.work, self.calls = at, work, 0

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        self.calls += 1
        if self.calls - 1 == self.at:
            self.work()
        return perform(*arguments)


def test_a_save_between_two_reads_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_slot, "LOOKS_AGAIN_S", (0.0,))
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)
    owner = CheckpointStore(tree)
    log, step = workload.resume_log(owner)

    def work() -> None:
        nonlocal step
        for _ in range(2):
            step += 1
            workload.save(owner, log, step)
        workload.save_best(owner, step, float(step))

    for look in (CheckpointStore.find_latest_checkpoint, CheckpointStore.best):
        counting = Interrupting(-1, work)
        look(CheckpointStore(tree, disk=counting, warn=pytest.fail))
        for at in range(counting.calls):
            found = look(CheckpointStore(tree, disk=Interrupting(at, work), warn=pytest.fail))
            assert found is not None, f"interrupted before read {at}"


@pytest.mark.parametrize("at", range(1, 5))
def test_a_restore_that_ends_while_a_reader_looks_leaves_no_empty_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(atomic_slot, "LOOKS_AGAIN_S", (0.0,))
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)
    ready = tree.root.rename(tmp_path / "models.ready")
    looks = itertools.count(1)

    def glob(folder: Path, pattern: str, real: Callable[[Path, str], Iterable[Path]] = Path.glob) -> list[Path]:
        there = list(real(folder, pattern))
        if next(looks) == at:
            ready.rename(tree.root)
        return there

    monkeypatch.setattr(Path, "glob", glob)
    assert CheckpointStore(tree, warn=pytest.fail).find_latest_checkpoint() is not None
    assert tree.root.is_dir(), "it ended meanwhile"


def test_a_restore_that_begins_when_a_reader_has_looked_is_no_interrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)

    def look(*arguments: Any, real: Callable[..., search.Found] = search.search_beside_owner) -> search.Found:
        found = real(*arguments)
        tree.root.rename(tmp_path / "models.ready")
        return found

    monkeypatch.setattr(search, "search_beside_owner", look)
    assert CheckpointStore(tree, warn=pytest.fail).find_latest_checkpoint() is not None


OWNER = """
import sys
from pathlib import Path
import crash_workload as workload
from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
store = CheckpointStore(TrainingTree(Path(sys.argv[1]), workload.SCENARIO))
log, step = workload.resume_log(store)
print("begins", flush=True)
for step in range(step + 1, 10**9):
    workload.save(store, log, step)
    workload.save_best(store, step, float(step))
"""


@pytest.mark.slow
def test_readers_beside_a_trainer_that_saves_without_pause_never_see_damage(tmp_path: Path) -> None:
    tree = TrainingTree(tmp_path / "models", workload.SCENARIO)
    live(tree)
    command = [sys.executable, "-c", OWNER, str(tree.root)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"begins\n"
        try:
            store = CheckpointStore(tree, warn=pytest.fail)
            steps = [-1]
            for _ in range(150):
                found, best = store.find_latest_checkpoint(), store.best()
                assert found is not None
                assert best is not None
                assert store.final() is not None
                steps.append(found.step)
        finally:
            owner.kill()
    assert steps == sorted(steps)
    assert steps[-1] > steps[1], "it saved meanwhile"
    assert not tree.quarantine.exists()
