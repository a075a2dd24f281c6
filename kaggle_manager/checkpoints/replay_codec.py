"""The rows of a replay buffer as bytes, each observation once.

A chunk holds, for the rows [first, end) of a ring:

    length of the description (4 bytes) | description (JSON) | one block of bytes per array

    plain      the rows
    frames     an array whose rows are stacks of images: where a row is the row before it moved on by one frame, only
               its newest frame. One bit for each (row, environment) says so, then the frames, then the other rows whole
    shared     an array such as next_observations, whose rows mostly equal the following row of observations: one bit
               for each (row, environment) that says so; for the others one bit that says whether it is the same row of
               observations moved on by one frame; then those frames, then the others whole
    tail       the one ring row the next transition will go to (with optimize_memory_usage it is half written)
    rewritten  an array whose old rows change (HER's ep_start and ep_length): which ring rows changed, then their values

Promises: `decode` gives back byte-identical rows, whatever they hold: sharing is found by comparing bytes, never
assumed.
Never does: read or write a file, or look at rows outside its chunk.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_LENGTH = struct.Struct("<I")
_IMAGE_DIMENSIONS = 5  # (row, environment, channel, height, width)
_CHANNELS_OF_A_FRAME = (1, 3)


def encode(
    rows: Mapping[str, Array],
    first: int,
    capacity: int,
    *,
    shared: Mapping[str, str],
    tail: Mapping[str, Array],
    rewritten: Mapping[str, tuple[Array, Array]],
) -> bytes:
    """Return the chunk of rows that follow each other and do not cross the ring's end.

    Args:
        rows: those rows of each array, of shape (count, ...).
        first: number of the first of them, counted from the first row the run ever wrote.
        capacity: rows of the ring.
        shared: array -> array whose following row it usually equals.
        tail: the next ring row, by array; empty for none.
        rewritten: for each rewritten array the changed ring rows, and their values.
    """
    end = first + len(next(iter(rows.values())))
    blocks: list[bytes] = []
    described: list[dict[str, Any]] = []

    def add(kind: str, name: str, dtype: np.dtype[Any], index: bytes, *parts: Array, **more: str | int) -> None:
        """Describe one block: `index` says which rows, `parts` are their bytes."""
        data = [part.tobytes() for part in parts]
        size = {"index": len(index), "bytes": len(index) + sum(map(len, data))}
        described.append({"kind": kind, "array": name, "dtype": dtype.str, **size, **more})
        blocks.extend((index, *data))

    for name, array in rows.items():
        if name in shared:
            ours, theirs = _bytes_of(array), _bytes_of(rows[shared[name]])
            equal = _equals_following(ours, theirs)
            mine, own = ours[~equal], theirs[~equal] if ours.shape == theirs.shape else None
            frame = _frame_bytes(rows[shared[name]]) if own is not None else 0
            moved = _is_moved_on(mine, own, frame) if frame and own is not None else np.zeros(len(mine), bool)
            index = np.packbits(equal).tobytes() + np.packbits(moved).tobytes()
            newest = mine[moved][:, mine.shape[1] - frame :]
            add("shared", name, array.dtype, index, newest, mine[~moved], of=shared[name], frame=frame)
        elif frame := _frame_bytes(array):
            ours = _bytes_of(array)
            moved = np.zeros(ours.shape[:2], bool)
            moved[1:] = _is_moved_on(ours[1:], ours[:-1], frame)
            newest = ours[moved][:, ours.shape[2] - frame :]
            add("frames", name, array.dtype, np.packbits(moved).tobytes(), newest, ours[~moved], frame=frame)
        else:
            add("plain", name, array.dtype, b"", array)
    for name, values in tail.items():
        add("tail", name, values.dtype, b"", values)
    for name, (changed, values) in rewritten.items():
        add("rewritten", name, values.dtype, changed.astype("<i8").tobytes(), values)
    description = {"first": first, "end": end, "capacity": capacity, "blocks": described}
    text = json.dumps(description, separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *blocks))


def decode(chunk: BinaryIO, into: Mapping[str, Array], rows_in_all: int) -> None:
    """Write one chunk's rows into the ring arrays; most of them are read straight to their place.

    Args:
        chunk: from `encode`; read from where it stands to the chunk's end.
        into: the arrays, by name.
        rows_in_all: rows the run had written; the tail counts only where nothing follows it.

    Raises:
        ValueError, KeyError, TypeError, struct.error: when the chunk does not describe these arrays.
    """
    (text_bytes,) = _LENGTH.unpack(chunk.read(_LENGTH.size))
    description = json.loads(chunk.read(text_bytes))
    first, end, capacity = description["first"], description["end"], description["capacity"]
    rows = slice(first % capacity, first % capacity + end - first)
    shared = []
    for block in description["blocks"]:
        target = into[block["array"]]
        if block["dtype"] != target.dtype.str:
            raise ValueError(f"{block['array']} is {block['dtype']} where {target.dtype.str} is expected")
        if len(target) != capacity:
            raise ValueError(f"a chunk of {capacity} ring rows")
        if not target.flags.c_contiguous:
            raise ValueError(f"{block['array']} does not lie in one piece")
        place = _bytes_of(target[rows])
        if block["kind"] == "plain":
            _read_into(chunk, place.reshape(-1), block["bytes"])
            continue
        index = _read(chunk, block["index"])
        data = _read(chunk, block["bytes"] - block["index"])
        match block["kind"]:
            case "tail" if end != rows_in_all:
                pass
            case "frames":
                _fill_frames(place, index, data, block["frame"])
            case "shared":  # when the rows it may equal are in place
                shared.append((place, _bytes_of(into[block["of"]][rows]), index, data, block["frame"]))
            case "tail":
                _fill(target, slice(end % capacity, end % capacity + 1), data)
            case "rewritten":
                _fill(target, index.view("<i8"), data)
            case kind:
                raise ValueError(f"an unknown kind of block: {kind}")
    for place, of, index, data, frame in shared:
        _fill_shared(place, of, index, data, frame)


def _read(chunk: BinaryIO, count: int) -> Array:
    data = np.empty(count, np.uint8)
    _read_into(chunk, data, count)
    return data


def _read_into(chunk: BinaryIO, target: Array, count: int) -> None:
    if len(target) != count:
        raise ValueError(f"{count:,} bytes for {len(target):,}")
    if chunk.readinto(target) != count:  # type: ignore[attr-defined]
        raise ValueError("it ends early")


def _bytes_of(rows: Array) -> Array:
    """View rows as (row, environment, bytes): the grain at which observations are shared."""
    environments = rows.shape[1] if rows.ndim > 1 else 1
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), environments, -1)


def _equals_following(ours: Array, theirs: Array) -> Array:
    """Say, for each (row, environment), whether the bytes equal those of their following row; the last never do."""
    mask: Array = np.zeros(ours.shape[:2], dtype=bool)
    if ours.shape == theirs.shape:
        mask[:-1] = (ours[:-1] == theirs[1:]).all(axis=2)
    return mask


def _is_moved_on(rows: Array, before: Array, frame: int) -> Array:
    """Say which rows begin as the rows `before` go on after their oldest frame, of `frame` bytes."""
    width = rows.shape[-1]
    mask: Array = (rows[..., : width - frame] == before[..., frame:]).all(axis=-1)
    return mask


def _frame_bytes(rows: Array) -> int:
    """Return the bytes of one frame when these rows are stacks of images, 0 when they are not."""
    if rows.ndim != _IMAGE_DIMENSIONS:
        return 0
    channels = rows.shape[2]
    ours = _bytes_of(rows)
    for one in _CHANNELS_OF_A_FRAME:
        frame = ours.shape[2] // channels * one
        if one < channels and channels % one == 0 and _is_moved_on(ours[1:], ours[:-1], frame).any():
            return int(frame)
    return 0


def _fill(target: Array, rows: slice | Array, data: Array) -> None:
    target[rows] = data.view(target.dtype).reshape(-1, *target.shape[1:])


def _fill_frames(rows: Array, index: Array, data: Array, frame: int) -> None:
    """Put together rows of which `index` says whether they are the row before them moved on by one frame."""
    moved = _bits(index, rows.shape[0] * rows.shape[1]).reshape(rows.shape[:2])
    stacks = rows.reshape(*rows.shape[:2], -1, frame)
    newest = np.count_nonzero(moved) * frame
    stacks[moved, -1] = data[:newest].reshape(-1, frame)
    rows[~moved] = data[newest:].reshape(-1, rows.shape[2])
    for place in range(stacks.shape[2] - 2, -1, -1):
        for environment in range(rows.shape[1]):
            # Between two rows stored whole, all rows are copied at once.
            whole = [*np.flatnonzero(~moved[:, environment]), len(rows)]
            for begin, stop in itertools.pairwise(whole):
                stacks[begin + 1 : stop, environment, place] = stacks[begin : stop - 1, environment, place + 1]


def _fill_shared(rows: Array, of: Array, index: Array, data: Array, frame: int) -> None:
    """Put together rows of which `index` says whether they equal the following row of `of`, or its own moved on."""
    count = rows.shape[0] * rows.shape[1]
    different = ~_bits(index, count).reshape(rows.shape[:2])
    if not different[-1].all():
        raise ValueError("a row that follows the last")
    if rows.shape == of.shape:
        rows[:-1] = of[1:]
    mine = np.empty((np.count_nonzero(different), rows.shape[2]), dtype=np.uint8)
    moved = _bits(index[-(-count // 8) :], len(mine))
    newest = np.count_nonzero(moved) * frame
    if frame:
        mine[moved, : -frame or None] = of[different][moved][:, frame:]
        mine[moved, mine.shape[1] - frame :] = data[:newest].reshape(-1, frame)
    mine[~moved] = data[newest:].reshape(-1, rows.shape[2])
    rows[different] = mine


def _bits(index: Array, count: int) -> Array:
    return np.unpackbits(index, count=count).astype(bool)
