"""The replay buffer as append-only segments: a checkpoint writes only the rows that are new.

A segment is a sequence of chunks. Which rows are new is found by `replay_capture`; the bytes of a chunk are described
in `replay_codec`.

Promises: `load` gives back byte-identical arrays; the rows of a `ReplayCommit` are on the medium when it is returned,
those written before are there still, by the sizes of their files;
the cost of a write follows the new rows, not the size of the buffer or the length of the run; few files (a ring is
`SEGMENTS_PER_RING` segments, and one or two more while it turns).
Never does: commit (a manifest does), delete a segment (the store does, when no manifest needs it), or unpickle.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import replay_codec, replay_files
from kaggle_manager.checkpoints.atomic_io import Disk, ensure_free_space, own_folder, storage_errors
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.checkpoints.manifest import ReplayCommit, SegmentRef
from kaggle_manager.checkpoints.replay_capture import Array, NewRows, capacity_of
from kaggle_manager.errors import CheckpointCorrupt

SEGMENTS_PER_RING = 8
"""Segments a full ring is cut into. More means less dead weight (at most one segment), fewer means fewer files."""

MAX_CHUNK_BYTES = 16 << 20
"""Rows are cut into chunks of about this size, to bound the memory one needs."""

_DECODERS = 2
_SAFE = "the checkpoints committed before still load"


class RowsGone(CheckpointCorrupt):
    """Rows that were written are gone from the disk: the log begins anew, with all rows that the buffer has."""


class ReplayLog:
    """The log of one replay buffer, in one folder, as far as it is written. One `write` at a time.

    Args:
        folder: the tree's `replay` folder.
        disk: the effects; tests inject one that dies or fails.
    """

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk or Disk()
        self._segments: list[SegmentRef] = []
        self._open_hash = hashlib.sha256()
        self._commit: ReplayCommit | None = None

    def resume(self, commit: ReplayCommit) -> None:
        """Go on behind the rows of `commit`.

        Raises:
            CheckpointCorrupt: the segment that is to grow is damaged.
            StorageError: the disk refused to read.
        """
        self._segments, self._commit = list(commit.segments), commit
        self._open_hash = hashlib.sha256()
        if commit.segments and not _is_full(commit.segments[-1], commit.capacity):
            with storage_errors("Reading the replay rows", safe="the checkpoint was only read"):
                self._open_hash = replay_files.verified_hash(self.folder, commit.segments[-1], self._disk)

    def write(self, new: NewRows) -> ReplayCommit:
        """Append rows, wait until they are on the medium, read them back, and return what a manifest must say of them.

        Raises:
            ValueError: some of the rows are in the log already.
            RowsGone: rows in it were deleted or cut; no later row is written before all are given anew.
            CheckpointCorrupt: they do not read back as they were written.
            StorageError: the disk refused; the rows committed before still load, and the same write may be tried again.
        """
        with storage_errors("Looking at the replay rows", safe=_SAFE):
            self._check_still_there()
        before = 0 if self._commit is None else self._commit.rows
        if self._commit is not None and new.rows == before:
            return self._commit
        if new.first_row < before:
            raise ValueError(f"row {new.first_row:,} is in the log already, as one of {before:,}")
        with storage_errors("Writing the replay rows", safe=_SAFE):
            if not self._segments:
                own_folder(self._disk, self.folder.parent)
                own_folder(self._disk, self.folder)
            needed = sum(rows.nbytes for stretch in new.stretches for rows in stretch.values())
            ensure_free_space(self.folder, needed, safe=_SAFE)
            segments, open_hash = self._write_pieces(new)
        oldest = max(new.rows - new.capacity, 0)
        self._segments = [ref for ref in segments if ref.end_row > oldest]
        self._open_hash = open_hash
        self._commit = ReplayCommit(new.rows, new.capacity, tuple(self._segments))
        return self._commit

    def _check_still_there(self) -> None:
        """By sizes alone: what is there and damaged is found by its reader.

        Raises:
            RowsGone: a segment is not; the log is empty from now on.
            OSError: from the disk.
        """
        for ref in self._segments:
            path = self.folder / ref.name
            if not path.is_file() or path.stat().st_size < ref.length:
                self._segments, self._commit = [], None
                raise RowsGone(
                    f"Replay segment {path} (rows {ref.first_row:,} to {ref.end_row:,}) was deleted or cut by another "
                    "program while the training went on.",
                    safe="the rows are in memory as well",
                    next_step="keep other programs out of this folder",
                )

    def _write_pieces(self, new: NewRows) -> tuple[list[SegmentRef], Any]:
        """Append every piece of `new`; return the segments and the running hash of the open one, as they now are."""
        segments, open_hash = list(self._segments), self._open_hash.copy()
        written: dict[Path, list[tuple[int, int, bytes]]] = {}
        for first, rows in _pieces(new, segments[-1] if segments else None):
            if not segments or _is_full(segments[-1], new.capacity):
                segments.append(SegmentRef(self._new_name(first), first, first, 0, ""))
                open_hash = hashlib.sha256()
            current, end = segments[-1], first + _length(rows)
            last = end == new.rows
            chunk = replay_codec.encode(
                rows,
                first,
                new.capacity,
                shared=new.shared,
                tail=new.tail if last else {},
                rewritten=new.rewritten if last else {},
            )
            path = self.folder / current.name
            self._disk.write_at(path, current.length, chunk)
            open_hash.update(chunk)
            length, sha256 = current.length + len(chunk), open_hash.hexdigest()
            segments[-1] = replace(current, end_row=end, length=length, sha256=sha256)
            written.setdefault(path, []).append((current.length, len(chunk), hashlib.sha256(chunk).digest()))
        for path in written:
            self._disk.sync(path)
        self._disk.sync_folder(self.folder)
        for path, chunks in written.items():
            self._read_back(path, chunks)
        return segments, open_hash

    def _read_back(self, path: Path, chunks: list[tuple[int, int, bytes]]) -> None:
        """Hold what was written (offset, bytes, SHA-256) against what the file has; one chunk in memory at a time.

        Raises:
            CheckpointCorrupt: it has something else.
            OSError: from the disk.
        """
        with self._disk.open(path) as file:
            for offset, length, sha256 in chunks:
                file.seek(offset)
                if hashlib.sha256(file.read(length)).digest() != sha256:
                    raise CheckpointCorrupt(
                        f"Replay segment {path.name} does not read back as it was written.",
                        safe=_SAFE,
                        next_step="check the disk",
                    )

    def _new_name(self, first_row: int) -> str:
        """Return a name that no file has: what an older session left behind is never written over."""
        name, number = f"segment_{first_row:012d}.bin", 1
        while (self.folder / name).exists():
            name, number = f"segment_{first_row:012d}_{number}.bin", number + 1
        return name


def load(
    folder: Path,
    commit: ReplayCommit,
    into: Mapping[str, Array],
    *,
    in_order: bool = False,
    verified: bool = False,
    disk: Disk | None = None,
) -> None:
    """Fill `into` with the buffer as it was at `commit`.

    Args:
        folder: the tree's `replay` folder.
        commit: from the manifest of the checkpoint to resume from.
        into: newly made arrays (zeros, as SB3 makes them) with the names, dtypes and shapes that were appended.
        in_order: whether rows were rewritten: what a later segment says of them must come last.
        verified: True right after the store verified the same rows: they are not hashed a second time.
        disk: the effects.

    Raises:
        CheckpointCorrupt: a segment is damaged (its file and rows are named), or does not fit `into`.
        StorageError: the disk refused to read.
    """
    disk = disk or Disk()
    if (capacity := capacity_of(into)) != commit.capacity:
        raise CheckpointCorrupt(f"The replay buffer has {capacity:,} rows and the checkpoint {commit.capacity:,}.")

    def read(ref: SegmentRef) -> None:
        with (
            storage_errors(f"Reading replay segment {ref.name}", safe="the checkpoint was only read"),
            disk.open(inside(folder, ref.name)) as data,
        ):
            try:
                while (position := data.tell()) < ref.length:
                    replay_codec.decode(data, into, commit.rows)
                if position > ref.length:
                    raise ValueError(f"its last chunk ends at byte {position:,} of {ref.length:,}")
            except (ValueError, KeyError, TypeError, struct.error) as error:
                raise CheckpointCorrupt(
                    f"Replay segment {ref.name} (rows {ref.first_row:,} to {ref.end_row:,}) does not fit: {error}."
                ) from error

    if not verified:
        with storage_errors("Verifying the replay rows", safe="the checkpoint was only read"):
            replay_files.verify(folder, commit.segments, disk)
    with ThreadPoolExecutor(1 if in_order else _DECODERS) as decoders:
        # The oldest may hold rows whose place in the ring is taken: first and alone.
        list(decoders.map(read, commit.segments[:1]))
        list(decoders.map(read, commit.segments[1:]))


def _length(rows: Mapping[str, Array]) -> int:
    return len(next(iter(rows.values())))


def _segment_rows(capacity: int) -> int:
    return max(capacity // SEGMENTS_PER_RING, 1)


def _is_full(segment: SegmentRef, capacity: int) -> bool:
    """Say whether the segment gets no more rows: the next ones begin another."""
    return segment.end_row - segment.first_row >= _segment_rows(capacity)


def _pieces(new: NewRows, current: SegmentRef | None) -> Iterator[tuple[int, Mapping[str, Array]]]:
    """Cut the new rows at the ring's end, at segment ends, and where a chunk would grow too large."""
    segment_rows = _segment_rows(new.capacity)
    segment_end = 0 if current is None else current.first_row + segment_rows
    first = new.first_row
    for stretch in new.stretches:
        count, done = _length(stretch), 0
        row_bytes = max(sum(rows[0].nbytes for rows in stretch.values()), 1)
        while done < count:
            if first >= segment_end:
                segment_end = first + segment_rows
            size = min(count - done, segment_end - first, max(MAX_CHUNK_BYTES // row_bytes, 1))
            yield first, {name: rows[done : done + size] for name, rows in stretch.items()}
            first, done = first + size, done + size
