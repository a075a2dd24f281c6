"""Latest, best and final: what is kept, what wins, what is found."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree, find_latest_checkpoint, index
from kaggle_manager.errors import LineageMismatch, StorageError

SCENARIO = "traffic_light_control"
COMMON: dict[str, Any] = {"target": 100_000, "lineage": Lineage("r", 1, None, 0), "bundle_sha256": "b" * 64}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(TrainingTree(tmp_path / "models", SCENARIO), warn=pytest.fail)


def save(store: CheckpointStore, step: int) -> None:
    store.save_latest(step=step, files={"model": f"model {step}".encode(), "state": b"state"}, **COMMON)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_documented_timeline_ends_with_latest_and_final_at_100k_and_best_at_20k(store: CheckpointStore) -> None:
    rewards = {0: -100, 1_000: -80, 5_000: -50, 10_000: -30, 15_000: -40, 20_000: -25, 30_000: -32, 50_000: -28}
    rewards |= {100_000: -35}
    for step in range(0, 100_001, 1_000):
        save(store, step)
        if step in rewards:
            store.save_best(score=rewards[step], step=step, files={"model": f"model {step}".encode()}, **COMMON)
        if step % 25_000 == 0:  # a session ends here, another one goes on
            store = CheckpointStore(store.tree, warn=pytest.fail)
            store.recover()
            resumed = store.find_latest_checkpoint()
            assert resumed is not None
            assert resumed.step == step, "it must resume from latest, never from best"
    store.save_final(step=100_000, files={"model": b"model 100000"}, **COMMON)

    assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [100_000, 99_000]
    best, final = store.best(), store.final()
    assert best is not None
    assert final is not None
    assert (best.step, best.manifest.score, best.read("model")) == (20_000, -25.0, b"model 20000")
    assert (final.step, final.model_path) == (100_000, store.tree.final)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_checkpoint_is_found_while_its_manifest_is_renamed(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    save(store, 1)
    save(store, 2)
    newest = index.latest_slot(store.tree, 2)
    newest.manifest_path.rename(newest.pending_path)
    looks = itertools.count(1)

    def glob(folder: Path, pattern: str, real: Callable[[Path, str], Iterable[Path]] = Path.glob) -> Iterator[Path]:
        there = list(real(folder, pattern))
        if next(looks) == at:
            newest.pending_path.rename(newest.manifest_path)
        yield from there

    monkeypatch.setattr(Path, "glob", glob)
    found = store.find_latest_checkpoint()
    assert found is not None
    assert found.step == 2
    assert newest.manifest_path.is_file(), "it was renamed meanwhile"


def test_exactly_two_latest_are_kept_under_the_documented_names(store: CheckpointStore) -> None:
    for step in (1, 2, 3):
        save(store, step)
    stems = [f"{SCENARIO}_checkpoint_{step}_steps" for step in (2, 3)]
    assert names(store.tree.checkpoints) == sorted(
        f"{stem}{end}" for stem in stems for end in (".zip", ".state", ".manifest.json")
    )


def test_saving_a_step_again_replaces_it_and_keeps_the_other(store: CheckpointStore) -> None:
    save(store, 1)
    save(store, 2)
    store.save_latest(step=2, files={"model": b"redone", "state": b"state"}, **COMMON)
    assert [checkpoint.read("model") for checkpoint in store.valid_checkpoints()] == [b"redone", b"model 1"]


def test_a_save_behind_a_later_checkpoint_is_refused_and_nothing_is_touched(store: CheckpointStore) -> None:
    save(store, 5)
    save(store, 6)
    with pytest.raises(LineageMismatch, match="holds a checkpoint of step 6"):
        save(store, 1)
    assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [6, 5]


def test_steps_come_from_manifests_not_from_names_or_times(store: CheckpointStore) -> None:
    save(store, 9)
    save(store, 10)
    for path in store.tree.checkpoints.iterdir():
        os.utime(path, (0, 0) if "_10_" in path.name else None)
    found = find_latest_checkpoint(store.tree.root, SCENARIO)
    assert found is not None
    assert found.step == 10, "9 is newer by time and greater by name"


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -30.0, -31.0])
def test_only_a_strictly_better_number_wins(store: CheckpointStore, score: float) -> None:
    assert store.save_best(score=-30.0, step=1, files={"model": b"first"}, **COMMON)
    assert not store.save_best(score=score, step=2, files={"model": b"second"}, **COMMON)
    best = store.best()
    assert best is not None
    assert best.read("model") == b"first"


def test_a_best_of_zero_is_a_number_like_any_other(store: CheckpointStore) -> None:
    assert store.save_best(score=0.0, step=1, files={"model": b"first"}, **COMMON)
    assert not store.save_best(score=-1.0, step=2, files={"model": b"second"}, **COMMON)
    assert store.save_best(score=0.5, step=3, files={"model": b"third"}, **COMMON)


def test_nan_never_becomes_the_first_best(store: CheckpointStore) -> None:
    assert not store.save_best(score=math.nan, step=1, files={"model": b"first"}, **COMMON)
    assert store.best() is None


def test_final_is_written_once_and_again_only_for_a_further_target(store: CheckpointStore) -> None:
    store.save_final(step=10, files={"model": b"ten"}, **COMMON)
    store.save_final(step=10, files={"model": b"ten again"}, **COMMON)
    assert store.tree.final.read_bytes() == b"ten"
    store.save_final(step=20, files={"model": b"twenty"}, **COMMON)
    assert store.tree.final.read_bytes() == b"twenty"


def test_an_empty_tree_has_nothing_and_says_so_quietly(store: CheckpointStore) -> None:
    assert store.find_latest_checkpoint() is None
    assert store.best() is None
    assert store.final() is None
    assert not store.recover()


def test_a_state_that_changed_after_it_was_found_is_not_handed_out(store: CheckpointStore) -> None:
    save(store, 1)
    found = store.find_latest_checkpoint()
    assert found is not None
    found.path("state").write_bytes(b"tampered")
    with pytest.raises(Exception, match="changed after it was verified"):
        found.read("state")


def test_files_without_a_manifest_are_put_aside_not_deleted(store: CheckpointStore) -> None:
    save(store, 1)
    stray = store.tree.checkpoints / f"{SCENARIO}_checkpoint_7_steps.zip"
    stray.write_bytes(b"whose?")
    (done,) = store.recover()
    kept = store.tree.quarantine / "orphans_1" / stray.name
    assert kept.read_bytes() == b"whose?"
    assert done == f"{stray.name}: moved to {kept.parent}"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_a_storage_error(store: CheckpointStore) -> None:
    save(store, 1)
    store.tree.checkpoints.chmod(0o500)
    with pytest.raises(StorageError, match="permission"):
        save(store, 2)


def test_a_folder_that_cannot_be_made_is_a_storage_error_that_says_what_is_safe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = CheckpointStore(TrainingTree(tmp_path / "file" / "models", SCENARIO), warn=pytest.fail)
    with pytest.raises(StorageError) as refused:
        save(store, 1)
    assert refused.value.safe
    assert refused.value.next_step


def test_a_disk_without_room_is_refused_before_the_first_byte(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1)
    before = names(store.tree.checkpoints)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(StorageError, match="10 bytes free"):
        save(store, 2)
    assert names(store.tree.checkpoints) == before
