"""A disk on which the process is killed in the middle of a save, for the proof."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from kaggle_manager.checkpoints import Disk


class FatalDisk(Disk):
    """Kills the session with SIGKILL instead of a process's n-th effect on files; a write leaves half of its bytes.

    Whichever process of the session writes, the one that made this disk is killed too.

    Args:
        effects: how many effects are still carried out.
        dying: called just before.
    """

    def __init__(self, effects: int, dying: Callable[[], None]) -> None:
        self._left = effects
        self._dying = dying
        self._session = os.getpid()

    def write(self, path: Path, data: bytes) -> None:
        self._count(lambda: super(FatalDisk, self).write(path, data[: len(data) // 2]))
        super().write(path, data)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self._count(lambda: super(FatalDisk, self).write_at(path, offset, data[: len(data) // 2]))
        super().write_at(path, offset, data)

    def sync(self, path: Path) -> None:
        self._count()
        super().sync(path)

    def sync_folder(self, path: Path) -> None:
        self._count()
        super().sync_folder(path)

    def replace(self, source: Path, destination: Path) -> None:
        self._count()
        super().replace(source, destination)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def _count(self, leave_half: Callable[[], None] = lambda: None) -> None:
        if self._left == 0:
            leave_half()
            self._dying()
            for process in (self._session, os.getpid()):
                os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._left -= 1
