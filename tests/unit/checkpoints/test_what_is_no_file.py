"""A pipe, a folder or a file that stands where the trainer has something else holds nobody up and ends no training."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trees import SCENARIO, plant

from kaggle_manager.checkpoints import CheckpointStore, Disk, Lineage, TrainingMetadata, read_metadata, write_metadata
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.checkpoints.file_list import list_files
from kaggle_manager.dashboard.curves import read_curve
from kaggle_manager.system.files import sha256_of
from kaggle_manager.trainer.runtime.output_folder import committed
from kaggle_manager.trees.inspect import verify_tree

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pipes there")

MADE = {"a pipe": os.mkfifo, "a folder": os.mkdir}
SUMMARY = TrainingMetadata(
    scenario=SCENARIO,
    algorithm="DQN",
    hyperparameters={},
    observation_space_shape=[26],
    action_space_shape=[2],
    policy_architecture=[64],
    environment_fingerprint="e",
    reward_fingerprint="r",
    library_versions={},
    device="cpu",
    timesteps_target=9,
    timesteps_done=5,
    training_seconds=1.5,
    updated_at="2026-01-01T00:00:00+00:00",
)


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    def waited(*_: object) -> None:
        raise AssertionError("it waits for the other end of a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", MADE)
def test_the_disk_opens_files_and_nothing_else(kind: str, tmp_path: Path) -> None:
    path, disk = tmp_path / "x", Disk()
    MADE[kind](path)
    tries: list[Callable[[], object]] = [
        lambda: disk.read(path),
        lambda: disk.open(path),
        lambda: disk.sha256(path, 1),
        lambda: disk.write(path, b"x"),
        lambda: disk.write_at(path, 0, b"x"),
        lambda: disk.append(path, b"x"),
        lambda: sha256_of(path),
    ]
    for attempt in tries:
        with pytest.raises(FileNotFoundError, match="there is no file"):
            attempt()


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    "name",
    [
        "zz_final.manifest.json",
        "zz_final.manifest.json.next",
        "best_model/best_model.manifest.json",
        "training_metadata.json",
        "history/monitor.csv",
        "history/evaluations.npz",
        f"checkpoints/{SCENARIO}_checkpoint_1_steps.zip",
    ],
)
def test_who_only_looks_sees_what_else_is_there(name: str, kind: str, tmp_path: Path) -> None:
    tree = plant(tmp_path / "training_tree", run_id="r")
    path = tree.root / name
    path.unlink(missing_ok=True)
    MADE[kind](path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = CheckpointStore(tree)
        store.recover()
        found = store.claim_latest_checkpoint()
        assert found is not None
        assert found.step == 2
        store.best()
        store.final()
        read_metadata(tree.metadata)
        read_curve(tree.history)
        verify_tree(tree)
        assert list_files(tree, Disk()).head.step == 2
        assert committed(tmp_path, "r")


def foreign(path: Path, kind: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    MADE[kind](path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    "name",
    [
        "training_metadata.json",
        "training_metadata.json.tmp",
        "best_model",
        "best_model/best_model.manifest.json",
        "best_model/best_model.zip",
        "best_model/best_model.zip.next",
        f"{SCENARIO}_final.zip",
        f"{SCENARIO}_final.manifest.json.next",
        f"checkpoints/{SCENARIO}_checkpoint_1_steps.zip",
        f"checkpoints/{SCENARIO}_checkpoint_3_steps.zip",
        f"checkpoints/{SCENARIO}_checkpoint_3_steps.zip.next",
        f"checkpoints/{SCENARIO}_checkpoint_3_steps.manifest.json.next",
        "quarantine",
    ],
)
def test_what_stands_in_the_place_of_ours_makes_way(name: str, kind: str, tmp_path: Path) -> None:
    tree = plant(tmp_path / "training_tree", run_id="r")
    foreign(tree.root / name, "a pipe" if kind == "a folder" and name in ("best_model", "quarantine") else kind)
    store = CheckpointStore(tree, warn=lambda _: None)
    facts: dict[str, Any] = {"target": 9, "lineage": Lineage("r", 1, None, 0), "bundle_sha256": "b" * 64}
    for step in (3, 4, 5):
        store.save_latest(step=step, files={"model": b"m", "state": b"s"}, **facts)
    assert store.save_best(score=9.0, step=4, files={"model": b"better"}, **facts)
    store.save_final(step=5, files={"model": b"last"}, **facts)
    write_metadata(tree.metadata, SUMMARY)
    again = CheckpointStore(tree, warn=pytest.fail)
    again.recover()
    found, best, final, summary = (
        again.find_latest_checkpoint(),
        again.best(),
        again.final(),
        read_metadata(tree.metadata),
    )
    assert found is not None
    assert best is not None
    assert final is not None
    assert (found.step, best.read("model"), final.step, summary) == (5, b"better", 5, SUMMARY)


def test_what_makes_way_is_kept_and_said(tmp_path: Path) -> None:
    (tmp_path / "x/y").mkdir(parents=True)
    with pytest.warns(RuntimeWarning, match=r"was in its way: it is now .*x\.other"):
        write_atomic(Disk(), tmp_path / "x", b"ours")
    assert ((tmp_path / "x").read_bytes(), (tmp_path / "x.other/y").is_dir()) == (b"ours", True)


def test_a_part_that_is_gone_is_not_continued_with_zeros(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Disk().write_at(tmp_path / "segment", 7, b"x")
    assert not (tmp_path / "segment").exists()
