"""What a file is to hold: its bytes, or what writes them, for a file too large to be in memory whole.

Promises: of a streamed content only a block is in memory; its size and SHA-256 are known before anything is written.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.file_entry import FileEntry

BLOCK = 4 << 20
"""Bytes read or written at once."""


class Streamed:
    """A content that is written where it is needed, twice: first only to be measured and hashed.

    Args:
        write: puts the content into a stream, the same bytes each time.
    """

    def __init__(self, write: Callable[[BinaryIO], None]) -> None:
        self._write = write
        measured = _Measured()
        self.write_to(measured)
        self.size, self.sha256 = measured.size, measured.hash.hexdigest()

    def write_to(self, raw: io.RawIOBase) -> None:
        with io.BufferedWriter(raw, BLOCK) as stream:
            self._write(stream)


Content = bytes | Streamed
Contents = Mapping[str, Content]
"""What files are to hold, by name."""


def entry_of(name: str, content: Content) -> FileEntry:
    """What a manifest says of the file `name`."""
    if isinstance(content, Streamed):
        return FileEntry(name, content.size, content.sha256)
    return FileEntry.of(name, content)


def write(disk: Disk, path: Path, content: Content) -> None:
    """Create or truncate `path` and write `content`. Not durable before `Disk.sync`."""
    if isinstance(content, Streamed):
        file = _File(disk, path)
        content.write_to(file)
        file.finish()
    else:
        disk.write(path, content)


def write_blocks(disk: Disk, path: Path, blocks: Iterable[bytes]) -> None:
    """Create or truncate `path` and write blocks as they come. Not durable before `Disk.sync`."""
    file = _File(disk, path)
    for block in blocks:
        file.write(block)
    file.finish()


class _Measured(io.RawIOBase):
    """Keeps only the size and the hash of what is written."""

    def __init__(self) -> None:
        self.size, self.hash = 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            self.hash.update(view)
            self.size += view.nbytes
            return view.nbytes


class _File(io.RawIOBase):
    """A file that is written from its beginning to its end, through a `Disk`. Closing it writes nothing: Python also
    closes what an error left behind, at any later moment, when the file may be another's."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk, self._path, self._size = disk, path, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view: Any = memoryview(data).cast("B")  # as good as bytes, without a copy
        if self._size == 0:
            self._disk.write(self._path, view)
        else:
            self._disk.write_at(self._path, self._size, view)
        self._size += len(view)
        return len(view)

    def finish(self) -> None:
        """Make the file of nothing, too."""
        if self._size == 0:
            self._disk.write(self._path, b"")
