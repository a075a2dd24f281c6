"""Which wanted files need no download, because this machine has their bytes already.

Promises: a file counts as here only when its SHA-256 says so, whatever its name, size and date say; a copy taken from
elsewhere on this machine is hashed as it is written and gets its name only when it is the one. Never asks the network.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import StorageError, UnsafePath
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.platform import ExpectedFile
from kaggle_manager.system.files import sha256_of

PART_SUFFIX = ".part"
"""What has come so far of a file lies beside its place under this suffix."""

_BLOCK = 1024 * 1024
_AT_ONCE = 4  # hashing leaves the interpreter free


@dataclass(frozen=True)
class Sorted:
    """The wanted files by where their bytes are: still on the platform, in the folder, copied from this machine."""

    missing: tuple[ExpectedFile, ...]
    here: tuple[ExpectedFile, ...]
    copied: tuple[ExpectedFile, ...]


def take_what_is_here(
    files: Sequence[ExpectedFile], folder: Path, *, copies: Mapping[str, Path] | None = None
) -> Sorted:
    """Leave what `folder` has already, and copy into it what this machine has elsewhere.

    Args:
        files: what is wanted in `folder`, under their own names.
        copies: for some names, a file elsewhere that may have the same bytes.

    Raises:
        UnsafePath: a name leaves the folder. StorageError: the disk refused.
    """
    folder = folder.absolute()
    paths = [path_inside(folder, file.name) for file in files]

    def place(file: ExpectedFile, path: Path) -> str:
        if is_there(file, path):
            return "here"
        elsewhere = (copies or {}).get(file.name)
        return "copied" if elsewhere is not None and _copied(file, elsewhere, path) else "missing"

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="hash") as pool:
        places = list(pool.map(place, files, paths))
    sorted_files = {kind: tuple(f for f, at in zip(files, places, strict=True) if at == kind) for kind in set(places)}
    return Sorted(*(sorted_files.get(kind, ()) for kind in ("missing", "here", "copied")))


def is_there(file: ExpectedFile, path: Path) -> bool:
    """Whether `path` has exactly the bytes that are wanted; False when their hash is not known."""
    if file.sha256 is None or not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    return sha256_of(path) == file.sha256.lower()


def path_inside(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`.

    Raises:
        UnsafePath: it would be outside.
    """
    check_file_name(name)
    path = folder / name
    # A link left in the folder could lead out of it although the name does not.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafePath(
            f"{name!r} would be written outside {folder}, through a link.",
            safe="nothing was downloaded",
            next_step=f"remove the link, or the folder {folder}",
        )
    return path


def _copied(file: ExpectedFile, source: Path, destination: Path) -> bool:
    if file.sha256 is None or source.is_symlink() or not source.is_file():
        return False
    if file.size is not None and source.stat().st_size != file.size:
        return False
    digest = hashlib.sha256()
    begun = destination.with_name(f"{destination.name}.copy")  # the part of a download that was cut is another file
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as stream, begun.open("wb") as out:
            while block := stream.read(_BLOCK):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != file.sha256.lower():
            begun.unlink()
            return False
        begun.replace(destination)
        destination.with_name(f"{destination.name}{PART_SUFFIX}").unlink(missing_ok=True)
    except OSError as error:
        begun.unlink(missing_ok=True)
        raise storage_error(error, destination) from None
    return True


def storage_error(error: OSError, destination: Path) -> StorageError:
    """Our error for what the disk said about `destination`."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return StorageError(
        f"{destination} could not be written: {error.strerror or type(error).__name__}.",
        safe="what was downloaded so far is kept as a .part file; nothing earlier was replaced",
        next_step=f"{'free some space' if full else 'make the folder writable'} and run the same command again",
    )
