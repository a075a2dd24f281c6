"""On Windows a file that another program has open cannot be renamed: waited for a moment, then named as what it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import atomic_io
from kaggle_manager.checkpoints.atomic_io import Disk, storage_errors
from kaggle_manager.errors import StorageError


@pytest.mark.parametrize("refusals", [1, 5, 6])
def test_a_rename_waits_for_a_virus_scanner_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    left = [refusals]
    really = os.replace

    def replace(source: Path, destination: Path) -> None:
        if left[0]:
            left[0] -= 1
            error = PermissionError(errno.EACCES, "The process cannot access the file")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error
        really(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    slept: list[float] = []
    monkeypatch.setattr(atomic_io.time, "sleep", slept.append)
    (tmp_path / "new").write_text("new")
    if refusals <= 5:
        Disk().replace(tmp_path / "new", tmp_path / "old")
        assert (tmp_path / "old").read_text() == "new"
        assert len(slept) == refusals
        return
    with pytest.raises(StorageError, match="a program has open") as raised, storage_errors("Restoring", safe="all"):
        Disk().replace(tmp_path / "new", tmp_path / "old")
    assert "close what has it open" in raised.value.next_step
    assert sum(slept) < 2


def test_what_is_not_permitted_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, destination: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic_io.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(StorageError, match="permission was denied"), storage_errors("Restoring", safe="all"):
        Disk().replace(tmp_path / "new", tmp_path / "old")
