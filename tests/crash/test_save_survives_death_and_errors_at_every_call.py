"""Dying, or an error of the disk, at any single call of the store loses nothing that was acknowledged."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
from pathlib import Path

import crash_workload as workload
import pytest
from crash_disks import Died, DyingDisk, FailingDisk
from crash_workload import Promises

from kaggle_manager.errors import CheckpointCorrupt, StorageError

pytestmark = pytest.mark.slow


def test_death_at_every_call(quick_folder: Path) -> None:
    for number in itertools.count():
        root, promised = quick_folder / "models", Promises()
        try:
            workload.run(root, DyingDisk(number), promised, acknowledge=lambda: None)
        except Died:
            assert workload.violations(root, promised) == [], f"died at call {number}"
            shutil.rmtree(root)
        else:
            break
    assert number > 100, "the workload got shorter than it was when this test could find something"


@pytest.mark.parametrize(
    ("error", "persistent"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["EIO once", "ENOSPC from then on"]
)
def test_an_error_at_every_call(quick_folder: Path, error: int, persistent: bool) -> None:
    for number in itertools.count():
        root, promised = quick_folder / "models", Promises()
        disk = FailingDisk(number, error, persistent)
        with contextlib.suppress(StorageError, CheckpointCorrupt):  # and nothing else
            workload.run(root, disk, promised, acknowledge=lambda: None)
        if disk.calls <= number:
            break
        assert workload.violations(root, promised) == [], f"error at call {number}"
        shutil.rmtree(root)
    assert number > 100


def test_a_training_goes_on_after_a_save_that_failed_once(quick_folder: Path) -> None:
    for number in range(0, 120, 5):
        root, promised = quick_folder / str(number), Promises()
        disk = FailingDisk(number, errno.ENOSPC)
        for _ in range(3):
            try:
                workload.run(root, disk, promised, acknowledge=lambda: None)
                break
            except (StorageError, CheckpointCorrupt):
                continue
        assert promised.final == 3
        assert workload.violations(root, promised) == [], f"error at call {number}"
