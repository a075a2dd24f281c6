"""The log of a session as it lies on this machine.

A log is a convenience: a disk that refuses it, or something else under its name, ends nothing. Whatever lies there is
read within bounds, and its lines are `printable`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.platform import LONGEST_LINE

LOG_FILE = "kernel.log"
# In bytes: what a copy of a running session's log keeps when it has twice as many, and what is read to judge a session.
KEPT = 4_000_000


class LogCopy:
    """A file with the newest lines of a log that continues."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, 0

    def add(self, line: str) -> None:
        """Append a line; the first one begins the file anew."""
        data = f"{line}\n".encode("utf-8", "replace")
        with contextlib.suppress(OSError):  # the whole log comes with the outputs
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._size > 2 * KEPT:
                kept = "\n".join(read_tail(self._path, KEPT)[0]).encode() + b"\n"
                self._path.write_bytes(kept)
                self._size = len(kept)
            with self._path.open("ab" if self._size else "wb") as file:
                file.write(data)
        self._size += len(data)


def write_log(path: Path, lines: Iterable[str]) -> str:
    """Write a whole log; what the disk said against it, or ''."""
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")
    except OSError as error:
        return f"the log could not be kept: {error.strerror or error}"
    return ""


def read_lines(path: Path) -> Iterator[str]:
    """Every line of a log; a line that is too long comes in parts.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        while line := file.readline(4 * LONGEST_LINE):
            yield _line(line)


def read_tail(path: Path, most: int = KEPT) -> tuple[list[str], bool]:
    """The lines in the last `most` bytes of a log, and whether these are all.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most))
        data = file.read(most)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    is_cut = size > most
    return [_line(line) for line in (lines[1:] if is_cut else lines)], not is_cut


def _line(data: bytes) -> str:
    return one_line(data.decode("utf-8", "replace").removesuffix("\n"), LONGEST_LINE)
