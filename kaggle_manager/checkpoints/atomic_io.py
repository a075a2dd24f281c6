"""The only module that writes, syncs, renames or deletes checkpoint files.

Promises: a file written with `write_atomic` is, after a crash or a power loss at any instant, either the old one or the
new one, whole. A disk that refuses (full, read-only, no permission, input/output error) ends in a `StorageError` that
says what is safe.
Never does: decide what may be deleted; write outside the folder it was given; leave the temporary file in another file
system (a rename across file systems is a copy, and a copy can tear).

Every effect is one call of one small method of `Disk`, so that a test can die, or fail, at the n-th call.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints.layout import TEMPORARY_SUFFIX
from kaggle_manager.errors import StorageError
from kaggle_manager.system.files import regular

SPACE_MARGIN = 1.2
"""Free space asked for, as a multiple of the bytes about to be written."""

_HASH_BLOCK = 1 << 20

_ROOM = "free some space, then start the same command again"
_RIGHTS = "give this user the right to write there, or choose another folder with --workdir"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with --workdir"),
    errno.EACCES: ("permission was denied", _RIGHTS),
    errno.EPERM: ("permission was denied", _RIGHTS),
    errno.EIO: ("the disk reported an input/output error", "check the disk, then start the same command again"),
}
"""What the operating system may refuse with, and what to do about it."""

# Windows renames nothing that a program has open (WinError 5 and 32); a virus scanner is done with it in a moment.
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_OPEN_ELSEWHERE = (
    "Windows changes nothing that a program has open",
    "close what has it open, such as TensorBoard, an editor or a file manager, then start the same command again",
)


LARGEST_READ = 16 << 20
"""In bytes; larger than every file that is read at once."""


class Disk:
    """The primitive effects on files. Subclassed by tests; nothing else in the package touches a checkpoint file.

    Each method raises the `OSError` of the operating system unchanged: `storage_errors` turns it into a `StorageError`
    where the meaning of the whole operation is known.
    """

    def read(self, path: Path) -> bytes:
        """Return all bytes of `path`, a manifest; of a file that is no manifest by its size only the beginning."""
        with open(path, "rb", opener=regular) as file:
            return file.read(LARGEST_READ)

    def open(self, path: Path) -> BinaryIO:
        """Return `path` to be read piece by piece."""
        return open(path, "rb", opener=regular)

    def sha256(self, path: Path, length: int) -> hashlib._Hash:
        """Return the running SHA-256 of the first `length` bytes of `path`, which need not all be there."""
        digest, block = hashlib.sha256(), memoryview(bytearray(_HASH_BLOCK))
        with open(path, "rb", buffering=0, opener=regular) as file:
            while length and (count := file.readinto(block[: min(length, len(block))])):
                digest.update(block[:count])
                length -= count
        return digest

    def make_folder(self, path: Path) -> None:
        """Create `path` and its parents, if need be, and wait until their names are on the medium."""
        if not path.is_dir():
            self.make_folder(path.parent)
            path.mkdir(exist_ok=True)
            Disk.sync_folder(self, path.parent)

    def write(self, path: Path, data: bytes) -> None:
        """Create or truncate `path` and write `data`. Not durable before `sync`."""
        with open(path, "wb", opener=regular) as file:
            file.write(data)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Cut `path` at `offset` bytes, or create it for 0, then write `data` behind. Not durable before `sync`."""
        # What is to be continued and is gone is an error: a new file would have zeros for it.
        with open(path, "r+b" if offset or path.exists() else "xb", opener=regular) as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Write `data` behind what `path` has, durable on return; a few lines are one write, not mixed with others'."""
        with open(path, "ab", opener=regular) as file:
            file.write(data)
        self.sync(path)

    def sync(self, path: Path) -> None:
        """Wait until the bytes of `path` are on the medium."""
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            if sys.platform == "darwin":  # where fsync stops at the drive's volatile cache
                import fcntl

                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in `path` are on the medium. Windows has no such call and orders names itself."""
        if os.name == "nt":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, destination: Path) -> None:
        """Rename `source` to `destination` in one step; a file there is replaced, a folder there must not exist."""
        for pause_s in (*_PAUSES_S, None):
            try:
                os.replace(source, destination)  # noqa: PTH105 - the name everyone knows for the atomic rename
                return
            except PermissionError as error:
                if pause_s is None or not _is_open_elsewhere(error):
                    raise
                time.sleep(pause_s)

    def link(self, source: Path, destination: Path) -> None:
        """Give the file `source` the further name `destination`, which must not exist: the same bytes, kept once."""
        os.link(source, destination)

    def unlink(self, path: Path) -> None:
        """Delete the file `path`; nothing happens when it is not there."""
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Delete the empty folder `path`."""
        path.rmdir()


def write_atomic(disk: Disk, path: Path, data: bytes) -> None:
    """Write `path` so that a crash leaves the old bytes or the new ones, and nothing between.

    Temporary file in the same folder, sync, rename, sync of the folder.

    Raises:
        OSError: from the disk; `path` then still has its old bytes.
    """
    with replacing(disk, path) as temporary:
        disk.write(temporary, data)


@contextlib.contextmanager
def replacing(disk: Disk, path: Path) -> Iterator[Path]:
    """As `write_atomic`, of what is written inside to the temporary file that is given."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    make_way(disk, temporary)
    yield temporary
    disk.sync(temporary)
    put(disk, temporary, path)
    disk.sync_folder(path.parent)


def make_way(disk: Disk, path: Path) -> None:
    """Rename what stands in the place of a file of ours and is none (a folder, a pipe, a link), with a warning.

    Raises:
        OSError: from the disk.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        _rename_aside(disk, path)


def put(disk: Disk, source: Path, destination: Path) -> None:
    """Rename the file `source` to `destination`, a file of ours: one there is replaced, what else is there makes way.

    Raises:
        OSError: from the disk.
    """
    if not destination.is_symlink():  # a rename replaces the link itself
        make_way(disk, destination)
    disk.replace(source, destination)


def own_folder(disk: Disk, folder: Path) -> None:
    """As `Disk.make_folder`, for a folder of ours: what else is in its place makes way. A link to nowhere is an error.

    Raises:
        OSError: from the disk.
    """
    if folder.exists() and not folder.is_dir():
        _rename_aside(disk, folder)
    disk.make_folder(folder)


def _rename_aside(disk: Disk, path: Path) -> None:
    aside = free_name(path.with_name(f"{path.name}.other"))
    disk.replace(path, aside)
    with contextlib.suppress(RuntimeWarning):  # where warnings are errors, this is none
        warnings.warn(f"{path} was not made by this project and was in its way: it is now {aside}", RuntimeWarning, 4)


def free_name(wanted: Path) -> Path:
    """Return `wanted`, or the first of `wanted_2`, `wanted_3`, ... that does not exist."""
    candidate, number = wanted, 1
    while os.path.lexists(candidate):  # a link to nothing is in the way as well
        number += 1
        candidate = wanted.with_name(f"{wanted.name}_{number}")
    return candidate


def remove_tree(disk: Disk, folder: Path) -> None:
    """Delete `folder` and all in it, following no symbolic link."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(disk, entry)
        else:
            disk.unlink(entry)
    disk.remove_folder(folder)


def ensure_free_space(folder: Path, needed_bytes: int, *, safe: str) -> None:
    """Refuse before the first byte is written when the disk cannot take `needed_bytes` with a margin.

    Args:
        folder: an existing folder on the disk in question.
        needed_bytes: what is about to be written.
        safe: what the error says is still there.

    Raises:
        StorageError: when less than `SPACE_MARGIN` times that is free.
    """
    free = shutil.disk_usage(folder).free
    wanted = int(needed_bytes * SPACE_MARGIN)
    if free < wanted:
        raise StorageError(
            f"{folder} has {free:,} bytes free and {wanted:,} are needed.",
            safe=safe,
            next_step=_ROOM,
        )


@contextlib.contextmanager
def storage_errors(doing: str, *, safe: str) -> Iterator[None]:
    """Turn an `OSError` raised inside into a `StorageError` that says what was being done and what is safe.

    Args:
        doing: completes "... failed:", for example "saving the checkpoint of step 1000".
        safe: what is still there.
    """
    try:
        yield
    except OSError as error:
        otherwise = error.strerror or str(error), "look at the message above, then start the same command again"
        known = _OPEN_ELSEWHERE if _is_open_elsewhere(error) else _REFUSALS.get(error.errno or 0, otherwise)
        why, next_step = known
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(f"{doing} failed: {why}{where}.", safe=safe, next_step=next_step) from error


def _is_open_elsewhere(error: OSError) -> bool:
    return getattr(error, "winerror", None) in (5, 32)
