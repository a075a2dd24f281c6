"""The replay segments of a checkpoint, as files: verified, mended, dropped.

Promises: a segment counts only when the SHA-256 its manifest commits matches; damage its parity covers is mended, in
memory while only looking, on disk when asked to; what stays unreadable is named by file and by rows.
Never does: look inside a chunk's payload (see `replay_log`), or touch a segment that any manifest refers to.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints import segment
from kaggle_manager.checkpoints.atomic_io import Disk, sha256_bytes, write_atomic
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.checkpoints.manifest import ReplayCommit, SegmentRef
from kaggle_manager.errors import CheckpointCorrupt, UnsafePath

_READERS = 4


def verified_bytes(folder: Path, ref: SegmentRef, disk: Disk) -> tuple[bytes, bool]:
    """Return the committed bytes of a segment, and whether they had to be rebuilt from parity.

    Raises:
        CheckpointCorrupt: when they can neither be verified nor rebuilt; the message names the file and its rows.
        OSError: when the file cannot be read, which proves no damage.
    """
    lost = f"Replay segment {ref.name} (rows {ref.first_row:,} to {ref.end_row:,})"
    try:
        data = disk.read(inside(folder, ref.name))[: ref.length]
    except FileNotFoundError as error:
        raise CheckpointCorrupt(f"{lost} is missing.") from error
    except UnsafePath as error:
        raise CheckpointCorrupt(f"{lost}: {error.message}") from error
    if len(data) < ref.length:
        raise CheckpointCorrupt(f"{lost} has {len(data):,} bytes where {ref.length:,} were committed.")
    if sha256_bytes(data) == ref.sha256:
        return data, False
    data, problems = segment.repair(data)
    if sha256_bytes(data) == ref.sha256:
        return data, True
    raise CheckpointCorrupt(f"{lost} is damaged: {'; '.join(problems) or 'its bytes are not those committed'}.")


def open_again(folder: Path, ref: SegmentRef, disk: Disk) -> BinaryIO:
    """Return a segment that was verified a moment ago: to be read piece by piece to where its rows go.

    To hold it whole would take fresh memory, which costs more than the reading.

    Raises:
        CheckpointCorrupt, OSError: as `verified_bytes`.
    """
    with contextlib.suppress(FileNotFoundError, UnsafePath):
        return disk.open(inside(folder, ref.name))
    return io.BytesIO(verified_bytes(folder, ref, disk)[0])


def verify(folder: Path, replay: ReplayCommit, disk: Disk) -> list[SegmentRef]:
    """Verify every segment; return those that are only whole thanks to their parity.

    Raises:
        CheckpointCorrupt: naming every segment that cannot be read.
    """
    problems: list[str] = []

    def is_weak(ref: SegmentRef) -> bool:
        try:
            return not _is_as_committed(folder, ref, disk) and verified_bytes(folder, ref, disk)[1]
        except CheckpointCorrupt as error:
            problems.append(error.message)
            return False

    with ThreadPoolExecutor(_READERS) as readers:  # hashing and reading let other threads run
        weak = [ref for ref, found in zip(replay.segments, readers.map(is_weak, replay.segments), strict=True) if found]
    if problems:
        raise CheckpointCorrupt(" ".join(sorted(problems)))
    return weak


def _is_as_committed(folder: Path, ref: SegmentRef, disk: Disk) -> bool:
    """Hash a segment block by block, which costs a fraction of reading it whole; nothing is said of what is wrong."""
    try:
        return disk.sha256(inside(folder, ref.name), ref.length) == ref.sha256
    except (FileNotFoundError, UnsafePath):
        return False


def mend(folder: Path, refs: Iterable[SegmentRef], disk: Disk, warn: Callable[[str], None]) -> None:
    """Write the rebuilt bytes of damaged segments back, leaving what lies behind their committed length as it is.

    Raises:
        OSError: from the disk; the damaged file then stays as it was.
        CheckpointCorrupt: when a segment has become unreadable meanwhile.
    """
    for ref in refs:
        path = inside(folder, ref.name)
        data, rebuilt = verified_bytes(folder, ref, disk)
        if rebuilt:
            write_atomic(disk, path, data + disk.read(path)[ref.length :])
            warn(f"Replay segment {ref.name} was damaged; it was rebuilt from its parity and verifies again.")


def drop_unneeded(folder: Path, needed: set[str], disk: Disk) -> list[Path]:
    """Delete every file of the replay folder that is not `needed`; return them.

    Raises:
        OSError: from the disk.
    """
    if not folder.is_dir():
        return []
    unneeded = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in needed]
    for path in unneeded:
        disk.unlink(path)
    return unneeded
