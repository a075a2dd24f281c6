"""The replay segments of a checkpoint, as files: verified, and deleted when no manifest needs them.

Promises: a segment counts only when its committed bytes have the SHA-256 in the manifest; one that does not is named,
with its rows. A segment that both checkpoints share is not stored twice: when it is damaged, the way back is a copy of
the tree (see docs/decisions/replay-log.md).
Never does: look inside a segment (see `replay_codec`), or touch one that a manifest refers to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import Disk, ensure_free_space
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.checkpoints.manifest import SegmentRef
from kaggle_manager.errors import CheckpointCorrupt, UnsafePath

_READERS = 4
MOST_KEPT_BYTES = 1 << 30
"""Rows kept with a checkpoint in quarantine: a session's output may have 20 GB, and those that verify come first."""


def verify(folder: Path, segments: Iterable[SegmentRef], disk: Disk) -> None:
    """Read and hash segments.

    Raises:
        CheckpointCorrupt: naming every segment whose committed bytes are not there.
        OSError: when a file cannot be read, which proves no damage.
    """

    def problem(ref: SegmentRef) -> str:
        try:
            verified_hash(folder, ref, disk)
        except CheckpointCorrupt as error:
            return error.message
        return ""

    with ThreadPoolExecutor(_READERS) as readers:  # hashing and reading release the interpreter lock
        problems = list(filter(None, readers.map(problem, segments)))
    if problems:
        raise CheckpointCorrupt(" ".join(problems))


def verified_hash(folder: Path, ref: SegmentRef, disk: Disk) -> hashlib._Hash:
    """Return the running SHA-256 of a segment's committed bytes, which are those of its manifest.

    Raises:
        CheckpointCorrupt, OSError: as `verify`.
    """
    segment = f"Replay segment {ref.name} (rows {ref.first_row:,} to {ref.end_row:,})"
    try:
        path = inside(folder, ref.name)
        size = path.stat().st_size
        if size < ref.length:
            raise CheckpointCorrupt(f"{segment} has {size:,} bytes where {ref.length:,} were committed.")
        digest = disk.sha256(path, ref.length)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointCorrupt(f"{segment} is missing.") from error
    except UnsafePath as error:
        raise CheckpointCorrupt(f"{segment}: {error.message}") from error
    if digest.hexdigest() != ref.sha256:
        raise CheckpointCorrupt(f"{segment} is damaged: its bytes are not those that were committed.")
    return digest


def keep_copy(folder: Path, segments: Iterable[SegmentRef], into: Path, disk: Disk) -> str:
    """Copy the committed bytes of segments, as they are, beside a checkpoint in quarantine; say what became of them.

    Raises:
        OSError: from the disk.
    """
    there = [ref for ref in segments if (folder / ref.name).is_file()]
    size = sum(ref.length for ref in there)
    if not there:
        return "It has no replay rows."
    if size > MOST_KEPT_BYTES:
        return f"Its replay rows, {size:,} bytes, are not kept: they go when no valid checkpoint needs them."
    ensure_free_space(folder, size, safe="it is in quarantine, without its rows")
    disk.make_folder(into)
    for ref in there:
        with disk.open(inside(folder, ref.name)) as file:
            disk.write(into / ref.name, file.read(ref.length))
    return f"Its replay rows, as they were then, are in {into.name}/."


def drop_unneeded(folder: Path, needed: set[str], disk: Disk) -> None:
    """Delete every file of the replay folder that is not `needed`.

    Raises:
        OSError: from the disk.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and path.name not in needed:
            disk.unlink(path)
