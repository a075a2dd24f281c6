"""Ingestion of uploaded files: plain ones are kept as they are, archives become folders, as on Kaggle.

An archive is known by its name. One that is damaged, climbs out of its folder or would not fit fails the whole version.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def ingest(files: Iterable[tuple[str, Path]], folder: Path, most_bytes: int) -> bool:
    """Fill `folder` (made here) with `files`, given as (name, path), read-only; False when that cannot be done."""
    folder.mkdir(parents=True)
    room = most_bytes
    for name, path in files:
        try:
            room -= _take(name, path, folder, room)
        except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, RuntimeError):
            return False  # The reasons are many and the answer is one: this version is FAILED.
    if os.name == "posix":  # elsewhere a read-only file could not be deleted again
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
    return True


def _take(name: str, path: Path, folder: Path, room: int) -> int:
    """Put one upload into `folder`; returns the bytes it takes there."""
    suffix = next((suffix for suffix in (".zip", *_TARS) if name.lower().endswith(suffix)), "")
    if suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            size = _checked(sum(member.file_size for member in packed.infolist()), room)
            packed.extractall(_subfolder(folder, name, suffix))
    elif suffix:
        with tarfile.open(path) as packed_tar:
            size = _checked(sum(member.size for member in packed_tar), room)
            packed_tar.extractall(_subfolder(folder, name, suffix), filter="data")
    else:
        size = _checked(path.stat().st_size, room)
        _link(path, folder / name)
    return size


def _subfolder(folder: Path, name: str, suffix: str) -> Path:
    target = folder / (name[: -len(suffix)] or "archive")
    target.mkdir()
    return target


def _checked(size: int, room: int) -> int:
    if size > room:
        raise ValueError("too large")
    return size


def _link(source: Path, target: Path) -> None:
    """The same bytes under a second name; copied where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
