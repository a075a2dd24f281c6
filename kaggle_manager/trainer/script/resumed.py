"""Whether a script that was given a checkpoint went on from it, or started again from zero.

It started again where it tells or saves a step that the checkpoint already has. One that tells nothing and saves at its
target alone is known by the files that it was given and never opened, which Linux says.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import SavedBackwards

_OPENED, _OVERFLOW, _IS_FOLDER = 0x20, 0x4000, 0x40000000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")


class Watch:
    """Notices whether anybody opens a file in a folder. Made when the folder is whole."""

    def __init__(self, folder: Path) -> None:
        self._fd, self._opened = -1, False
        has_files = any(path.is_file() for path in folder.rglob("*"))
        if not sys.platform.startswith("linux") or not has_files:
            return
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
                if self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(each), _OPENED) < 0:
                    self.close()
        except (OSError, AttributeError):
            self.close()

    def opened(self) -> bool | None:
        """Whether a file was opened so far; None where this machine cannot tell."""
        if self._fd < 0:
            return None
        try:
            while data := os.read(self._fd, 1 << 16):
                at = 0
                while at < len(data):
                    _, mask, _, length = _EVENT.unpack_from(data, at)
                    self._opened |= bool(mask & _OVERFLOW) or bool(mask & _OPENED and not mask & _IS_FOLDER)
                    at += _EVENT.size + length
        except BlockingIOError:
            pass
        return self._opened

    def close(self) -> None:
        """Look no longer."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


@dataclass(frozen=True)
class Resumed:
    """What a process did that was given the checkpoint of a step.

    Attributes:
        step: of that checkpoint; 0: it was given none.
        told, saved: the lowest step that it told and committed; None for none.
        opened: whether it opened a file of the checkpoint; None where nobody knows.
    """

    step: int
    told: int | None = None
    saved: int | None = None
    opened: bool | None = None

    @property
    def from_zero(self) -> str:
        """In words, that it started again from zero; '' where nothing says so for sure."""
        if not self.step:
            return ""
        if self.opened is False and self.saved is not None:
            return self._words
        if self.saved is not None and self.saved < self.step:
            return self._words
        again = self.told is not None and (self.told <= self.step if self.opened is False else self.told < self.step)
        return self._words if again and not self.opened else ""

    @property
    def perhaps_from_zero(self) -> str:
        """The same, also of one that opened its checkpoint and tells earlier steps: for where something is wrong."""
        again = self.step and self.told is not None and self.told < self.step
        return self.from_zero or (self._words if again else "")

    @property
    def cause(self) -> str:
        """To add to the message of an error that it may be the cause of."""
        words = self.perhaps_from_zero
        return f" The cause: {words}." if words else ""

    def cause_of(self, error: SavedBackwards) -> SavedBackwards:
        """The error, with its cause."""
        return SavedBackwards(error.message + self.cause, safe=error.safe, next_step=error.next_step)

    @property
    def _words(self) -> str:
        unopened = ", of which it opened no file" if self.opened is False else ""
        return (
            f"it started again from zero although it was given the checkpoint of step {self.step:,}{unopened}: load "
            "KM_SESSION_RESUME and continue from KM_SESSION_STEP"
        )
