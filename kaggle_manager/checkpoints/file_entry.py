"""A file by its name, size and SHA-256: the one record that manifests, packs and exports list.

Promises: what `parse_entries` returns has safe names, each once and in order, sizes within bounds, and well-formed
hashes.
Never does: open a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_manager.checkpoints.layout import check_relative
from kaggle_manager.checkpoints.sealed_json import count, digest, text
from kaggle_manager.system.files import sha256_bytes


@dataclass(frozen=True)
class FileEntry:
    """One file: its name relative to what lists it, its size in bytes, its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> FileEntry:
        """The entry of a file with these bytes."""
        return FileEntry(name, len(data), sha256_bytes(data))


def parse_entries(entries: Sequence[Mapping[str, Any]], *, most: int) -> tuple[FileEntry, ...]:
    """Read a list of entries from outside.

    Raises:
        ValueError, KeyError, TypeError: there are more than `most`, a name stands twice or out of order, or a value
            cannot be.
        UnsafePath: a name this project would not write.
    """
    if len(entries) > most:
        raise ValueError(f"{len(entries):,} files where at most {most:,} can be")
    files = tuple(
        FileEntry(str(check_relative(text(entry["name"]))), count(entry["size"]), digest(entry["sha256"]))
        for entry in entries
    )
    names = [file.name for file in files]
    if names != sorted(set(names)):
        raise ValueError("a file is named twice, or out of order")
    return files
