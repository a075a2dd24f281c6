"""What the user was told of already, also where the journal cannot remember it.

A cause is a short hash of what ended a command, without the numbers that change from one time to the next. A run's row
keeps those told since the run last went on. While the journal cannot be opened or written - or the settings cannot be
read, so that nobody knows which run it is - each cause is an empty file whose name says it: it takes no block of a full
disk. Where not even that can be written the user is told again: better twice than never.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from platformdirs import user_state_path

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.sessions.outcome import normalised_failure


def cause_of(error: KaggleManagerError) -> str:
    """What `error` is told under."""
    lines = map(normalised_failure, error.message.splitlines())
    return _hash(f"{type(error).__name__}: {' '.join(lines)}")


class ToldFiles:
    """The empty files that say what was told.

    Args:
        state: the state folder; the user's own folder stands in for one that cannot be written.
        about: what they are about: a training tree, or a command as it was given.
    """

    def __init__(self, state: Path, about: str) -> None:
        self._folders = (state, user_state_path("kaggle-manager", appauthor=False))
        self._prefix = f"told.{_hash(f'{state} {about}')}."

    def causes(self) -> set[str]:
        return {path.name.removeprefix(self._prefix) for path in self._files()}

    def add(self, cause: str) -> None:
        for folder in self._folders:
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{self._prefix}{cause}").touch()
                return

    def clear(self) -> None:
        for path in self._files():
            with suppress(OSError):
                path.unlink()

    def _files(self) -> Iterator[Path]:
        for folder in self._folders:
            with suppress(OSError):
                yield from list(folder.glob(f"{self._prefix}*"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
