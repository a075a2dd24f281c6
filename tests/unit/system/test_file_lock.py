"""A lock file has one holder; who comes second is told so, and a file system without locks is never called busy."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from kaggle_manager.errors import StorageError
from kaggle_manager.local_kaggle import disk
from kaggle_manager.system.file_lock import hold


def test_the_second_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as first, hold(tmp_path / "lock", wait_s=0.05) as second:
        assert (first, second) == (True, False)
    with hold(tmp_path / "lock") as again:
        assert again


@pytest.mark.skipif(os.name == "nt", reason="flock, and the rights of a file")
def test_the_local_kaggle_is_not_called_busy_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk.hold(tmp_path / "lock"):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match="has no file locks"), disk.hold(tmp_path / "lock"):
        pass
