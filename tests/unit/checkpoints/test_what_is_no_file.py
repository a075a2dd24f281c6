"""A pipe, a folder or a file that stands where the trainer has something else holds nobody up and ends no training."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_trees import SCENARIO, plant

from kaggle_manager.checkpoints import CheckpointStore, Disk, read_metadata
from kaggle_manager.checkpoints.atomic_io import sha256_of
from kaggle_manager.checkpoints.file_list import list_files
from kaggle_manager.dashboard.curves import read_curve
from kaggle_manager.trainer.runtime.output_folder import committed
from kaggle_manager.trees.inspect import verify_tree

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pipes there")

MADE = {"a pipe": os.mkfifo, "a folder": os.mkdir}


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
