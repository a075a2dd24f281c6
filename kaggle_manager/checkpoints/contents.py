"""What a file is to hold: its bytes; what writes them, for a file too large to be in memory whole; or another file.

Promises: of a streamed content only a block is in memory; its size and SHA-256 are known before anything is written. A
large shared file takes no room of its own where the disk can give a file two names, and is copied where it cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.file_entry import FileEntry
from kaggle_manager.checkpoints.layout import Kind, file_name
from kaggle_manager.checkpoints.manifest import CommittedFile

BLOCK = 4 << 20
"""Bytes read or written at once."""


SHARED_FROM = 16 << 20
"""Bytes from which on a shared file is kept once. A smaller one is copied: what happens to one file happens to one."""


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


@dataclass(frozen=True)
class Shared:
    """A content that is there already: the file of another checkpoint, see `Checkpoint.shared`.

    Args:
        path: where it lies; nobody ever writes into a committed file.
        size, sha256: as its manifest says. Whether it still is that is seen when the new checkpoint is read back.
    """

    path: Path
    size: int
    sha256: str

    @property
    def is_kept_once(self) -> bool:
        return self.size >= SHARED_FROM


Content = bytes | Streamed | Shared
Contents = Mapping[str, Content]
"""What the files of a checkpoint are to hold, by role."""


def entry_of(name: str, content: Content) -> FileEntry:
    """What a manifest says of the file `name`."""
    if isinstance(content, bytes):
        return FileEntry.of(name, content)
    return FileEntry(name, content.size, content.sha256)


def committed_files(kind: Kind, scenario: str, step: int, contents: Contents) -> tuple[CommittedFile, ...]:
    """What a manifest says of all files.

    Raises:
        UnsafePath: a role is no path of safe names.
    """
    names = {role: file_name(kind, scenario, step, role) for role in contents}
    entries = ((entry_of(names[role], content), role) for role, content in contents.items())
    files = (CommittedFile(entry.name, entry.size, entry.sha256, role) for entry, role in entries)
    return tuple(sorted(files, key=lambda file: file.name))


def write(disk: Disk, path: Path, content: Content) -> None:
    """Create `path`, which must not be a name of another file, and write `content`. Not durable before `Disk.sync`."""
    if isinstance(content, Streamed):
        file = _File(disk, path)
        content.write_to(file)
        file.finish()
    elif isinstance(content, Shared):
        _share(disk, path, content)
    else:
        disk.write(path, content)


def _share(disk: Disk, path: Path, content: Shared) -> None:
    if content.is_kept_once:
        with contextlib.suppress(OSError):  # another disk, a file system without links, too many of them
            disk.link(content.path, path)
            return
        disk.unlink(path)  # a link that was made though it failed: what is written to it would be written to both
    with disk.open(content.path) as file:
        write_blocks(disk, path, iter(lambda: file.read(BLOCK), b""))


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
