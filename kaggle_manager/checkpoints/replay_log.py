"""The replay buffer as base + append-only segments: a checkpoint writes only the rows that are new.

Suits the arrays of Stable-Baselines3's ReplayBuffer, DictReplayBuffer and HerReplayBuffer, with or without
`optimize_memory_usage`: each has the ring row on axis 0 and the environment on axis 1. What the bytes of a chunk say is
`replay_codec`'s business.

Promises: `load` gives back byte-identical arrays; the rows of a `ReplayCommit` are on the medium when it is returned;
the cost of `append` follows the new rows, not the size of the buffer or the length of the run (`rewritten` arrays alone
are compared whole, about a millisecond per million rows); few files (a ring is `SEGMENTS_PER_RING` segments, and one or
two more while it turns).
Never does: commit (a manifest does), delete a segment (the store does, when no manifest needs it), or unpickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_manager.checkpoints import replay_codec, replay_files, segment
from kaggle_manager.checkpoints.durable import Disk, storage_errors
from kaggle_manager.checkpoints.manifest import ReplayCommit, SegmentRef
from kaggle_manager.errors import CheckpointCorrupt

Array = np.ndarray[Any, np.dtype[Any]]

SEGMENTS_PER_RING = 8
"""Segments a full ring is cut into. More means less dead weight (at most one segment), fewer means fewer files."""

_DECODERS = 2

MAX_CHUNK_BYTES = 16 << 20
"""Rows are cut into chunks of about this size, to bound the memory one needs."""


@dataclass(frozen=True)
class Plan:
    """What one append will write, captured at one instant of the training.

    The new rows are not copied: they are read from the live arrays when the plan is written, possibly by another
    thread. They are stable until the ring reaches them again.

    Args:
        arrays: the live arrays.
        first_row: the first row not yet in the log.
        rows: rows written since the run began.
        tail: a copy of the ring row the next transition goes to, by array.
        rewritten: for each rewritten array, the changed ring rows and a copy of their values.
    """

    arrays: Mapping[str, Array]
    first_row: int
    rows: int
    tail: Mapping[str, Array]
    rewritten: Mapping[str, tuple[Array, Array]]

    @property
    def expires_at(self) -> int:
        """`write` must have returned before the run has written this many rows, or it would read newer ones."""
        return self.first_row + _capacity(self.arrays) - 1


class ReplayLog:
    """The log of one replay buffer, in one folder. One `append` (or `plan` and `write`) at a time.

    Args:
        folder: the tree's `replay` folder.
        shared: array -> array whose following row it usually equals, for example
            `{"next_observations": "observations"}`.
        rewritten: arrays whose old rows change; each is compared with a copy of itself at every append.
        disk: the effects; tests inject one that dies or fails.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shared: Mapping[str, str] | None = None,
        rewritten: Sequence[str] = (),
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self._shared = dict(shared or {})
        self._rewritten = tuple(rewritten)
        self._disk = disk or Disk()
        self._rows = 0
        self._segments: list[SegmentRef] = []
        self._open_hash = hashlib.sha256()
        self._shadows: dict[str, Array] = {}
        self._commit: ReplayCommit | None = None

    # ----------------------------------------------------------------------------------------------------- append

    def append(self, arrays: Mapping[str, Array], *, rows: int) -> ReplayCommit:
        """Write what is new in `arrays` and return what a manifest must say to have it back.

        Args:
            arrays: the live ring arrays, each of shape (capacity, ...), of any dtype without Python objects.
            rows: rows written into the ring since the run began (for SB3: environment steps / number of environments);
                the ring position is `rows % capacity`.

        Raises:
            ValueError: `rows` went back, or the arrays are not of one capacity or hold Python objects.
            StorageError: the disk refused; the rows committed before still load.
        """
        return self.write(self.plan(arrays, rows=rows))

    def plan(self, arrays: Mapping[str, Array], *, rows: int) -> Plan:
        """Capture what `write` will need, in a time that does not depend on the number of new rows.

        Raises:
            ValueError: as `append`.
        """
        capacity = _capacity(arrays)
        if rows < self._rows:
            raise ValueError(f"the log holds {self._rows} rows and cannot go back to {rows}")
        if missing := {*self._rewritten, *self._shared, *self._shared.values()} - set(arrays):
            raise ValueError(f"no such arrays: {sorted(missing)}")
        first = max(self._rows, rows - capacity)
        rewritten: dict[str, tuple[Array, Array]] = {}
        for name in self._rewritten:
            changed = self._changed(name, arrays[name], first, rows)
            rewritten[name] = changed, arrays[name][changed]
        tail_row = rows % capacity
        tail = {name: array[tail_row].copy() for name, array in arrays.items() if name not in self._rewritten}
        return Plan(arrays, first, rows, tail, rewritten)

    def write(self, plan: Plan) -> ReplayCommit:
        """Write a plan and wait until it is on the medium. May run in another thread than the training.

        Raises:
            StorageError: the disk refused; the rows committed before still load, and the next append writes these
                again.
        """
        capacity = _capacity(plan.arrays)
        if self._commit is not None and plan.rows == self._rows:
            return self._commit
        with storage_errors("Writing the replay rows", safe="the checkpoints committed before still load"):
            self._disk.make_folder(self.folder)
            segments, open_hash = self._write_pieces(plan, capacity)
        oldest = max(plan.rows - capacity, 0)
        self._segments = [ref for ref in segments if ref.end_row > oldest]
        self._open_hash = open_hash
        self._rows = plan.rows
        for name, (changed, values) in plan.rewritten.items():
            self._shadows[name][changed] = values
        self._commit = ReplayCommit(self._rows, capacity, tuple(self._segments))
        return self._commit

    def _write_pieces(self, plan: Plan, capacity: int) -> tuple[list[SegmentRef], Any]:
        """Append every piece of `plan`; return the segments and the running hash of the open one, as they now are."""
        segments, open_hash = list(self._segments), self._open_hash.copy()
        touched: list[Path] = []
        for first, end in _pieces(plan, capacity, segments[-1] if segments else None):
            if not segments or segments[-1].sealed:
                segments.append(SegmentRef(self._new_name(first), first, first, 0, open_hash.hexdigest(), False))
                open_hash = hashlib.sha256()
            current = segments[-1]
            last = end == plan.rows
            chunk = segment.encode_chunk(
                replay_codec.encode(
                    plan.arrays,
                    first,
                    end,
                    shared=self._shared,
                    tail=plan.tail if last else {},
                    rewritten=plan.rewritten if last else {},
                    apart=self._rewritten,
                )
            )
            path = self.folder / current.name
            self._disk.write_at(path, current.length, chunk)
            open_hash.update(chunk)
            segments[-1] = SegmentRef(
                name=current.name,
                first_row=current.first_row,
                end_row=end,
                length=current.length + len(chunk),
                sha256=open_hash.hexdigest(),
                sealed=end - current.first_row >= _segment_rows(capacity),
            )
            if path not in touched:
                touched.append(path)
        for path in touched:
            self._disk.sync(path)
        self._disk.sync_folder(self.folder)
        return segments, open_hash

    def _new_name(self, first_row: int) -> str:
        """Return a name that no file has: what an older session left behind is never written over."""
        name, number = f"segment_{first_row:012d}.bin", 1
        while (self.folder / name).exists():
            name, number = f"segment_{first_row:012d}_{number}.bin", number + 1
        return name

    def _changed(self, name: str, array: Array, first: int, rows: int) -> Array:
        """Return the ring rows of a rewritten array that are new or differ from what the log holds."""
        shadow = self._shadows.setdefault(name, np.zeros_like(array))
        mask: Array = (_as_integers(array) != _as_integers(shadow)).any(axis=1)
        mask[np.arange(first, rows) % len(array)] = True
        return np.flatnonzero(mask)

    # ------------------------------------------------------------------------------------------------------- load

    def load(self, commit: ReplayCommit, into: Mapping[str, Array], *, verified: bool = False) -> None:
        """Fill `into` with the buffer as it was at `commit`, and go on appending from there.

        Args:
            commit: from the manifest of the checkpoint to resume from.
            into: newly made arrays (zeros, as SB3 makes them) with the names, dtypes and shapes that were appended.
            verified: True right after `find_latest_checkpoint` verified the same rows: their SHA-256 is not computed
                again, so restoring reads each byte and hashes it once.

        Raises:
            CheckpointCorrupt: a segment is damaged (its file and rows are named), or does not fit `into`.
            StorageError: the disk refused to read.
        """
        capacity = _capacity(into)
        if capacity != commit.capacity:
            raise CheckpointCorrupt(f"The replay buffer has {capacity:,} rows and the checkpoint {commit.capacity:,}.")
        segments = list(commit.segments)

        def take(ref: SegmentRef) -> bytes:
            with storage_errors(f"Reading replay segment {ref.name}", safe="the checkpoint was only read"):
                data = self._read(ref, verified)
            try:
                for payload in segment.payloads(memoryview(data)):
                    replay_codec.decode(payload, into, commit.rows)
            except (ValueError, KeyError, TypeError, struct.error) as error:
                raise CheckpointCorrupt(
                    f"Replay segment {ref.name} (rows {ref.first_row:,} to {ref.end_row:,}) does not fit: {error}."
                ) from error
            return b"" if ref.sealed else data

        # The oldest may hold rows whose place in the ring is taken, and rewritten rows follow each other: in order.
        with ThreadPoolExecutor(1 if self._rewritten else _DECODERS) as decoders:
            unsealed = [take(ref) for ref in segments[:1]] + list(decoders.map(take, segments[1:]))
        self._open_hash = hashlib.sha256(unsealed[-1] if unsealed else b"")
        self._rows, self._segments, self._commit = commit.rows, segments, commit
        self._shadows = {name: into[name].copy() for name in self._rewritten}

    def _read(self, ref: SegmentRef, verified: bool) -> bytes:
        if verified:
            with contextlib.suppress(FileNotFoundError):
                data = self._disk.read(self.folder / ref.name)
                if len(data) >= ref.length:
                    return data[: ref.length]
        return replay_files.verified_bytes(self.folder, ref, self._disk)[0]


def _capacity(arrays: Mapping[str, Array]) -> int:
    """Return the number of ring rows all `arrays` share.

    Raises:
        ValueError: when they do not, or when one holds Python objects.
    """
    capacities = {len(array) for array in arrays.values()}
    if len(capacities) != 1 or 0 in capacities:
        raise ValueError(f"the arrays have {sorted(capacities)} rows where one number is needed")
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which only a pickle could keep")
    return capacities.pop()


def _segment_rows(capacity: int) -> int:
    return max(capacity // SEGMENTS_PER_RING, 1)


def _pieces(plan: Plan, capacity: int, current: SegmentRef | None) -> Iterator[tuple[int, int]]:
    """Cut the new rows at the ring's end, at segment ends, and where a chunk would grow too large."""
    row_bytes = max(sum(array[0].nbytes for array in plan.arrays.values()), 1)
    segment_rows = _segment_rows(capacity)
    segment_end = 0 if current is None or current.sealed else current.first_row + segment_rows
    first = plan.first_row
    while first < plan.rows:
        if first >= segment_end:
            segment_end = first + segment_rows
        ring_end = first + capacity - first % capacity
        end = min(plan.rows, ring_end, segment_end, first + max(MAX_CHUNK_BYTES // row_bytes, 1))
        yield first, end
        first = end


def _as_integers(array: Array) -> Array:
    """View an array as (row, integers), for comparisons that tell 0.0 from -0.0 and take a NaN for equal to itself."""
    width = array.dtype.itemsize if array.dtype.itemsize in (1, 2, 4, 8) else 1
    return np.ascontiguousarray(array).view(f"u{width}").reshape(len(array), -1)
