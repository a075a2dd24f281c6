"""What of a replay buffer is not in its log yet, as it is at one instant.

Suits the arrays of Stable-Baselines3's ReplayBuffer, DictReplayBuffer and HerReplayBuffer, with or without
`optimize_memory_usage`: each has the ring row on axis 0 and the environment on axis 1.

Promises: taking the new rows costs a time that does not depend on the size of the buffer (`rewritten` arrays alone are
compared whole, about a millisecond per million rows).
Never does: copy the new rows. They are views of the live arrays: the caller writes or copies them before training
continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class NewRows:
    """What one write to the log will hold.

    Args:
        first_row: the first row not yet in the log, counted from the first row the run ever wrote.
        rows: the row after the last of them.
        capacity: rows of the ring.
        stretches: these rows of each array, cut where the ring ends.
        shared: array -> array whose following row it usually equals.
        tail: the ring row the next transition goes to, by array; empty while more rows are to follow.
        rewritten: for each rewritten array, the changed ring rows and their values; empty while more are to follow.
    """

    first_row: int
    rows: int
    capacity: int
    stretches: tuple[Mapping[str, Array], ...]
    shared: Mapping[str, str]
    tail: Mapping[str, Array]
    rewritten: Mapping[str, tuple[Array, Array]]


class ReplayCapture:
    """Tells the new rows of one replay buffer from those it has given out before.

    Args:
        shared: array -> array whose following row it usually equals, for example
            `{"next_observations": "observations"}`.
        rewritten: arrays whose old rows change; each is compared with a copy of itself.
    """

    def __init__(self, *, shared: Mapping[str, str] | None = None, rewritten: Sequence[str] = ()) -> None:
        self._shared = dict(shared or {})
        self._rewritten = tuple(rewritten)
        self._rows = 0
        self._whole = 0  # rows when nothing more was to follow
        self._shadows: dict[str, Array] = {}

    @property
    def rows(self) -> int:
        """Rows given out so far, or restored."""
        return self._rows

    def restored(self, arrays: Mapping[str, Array], rows: int) -> None:
        """Go on from `arrays` as they were at `rows` rows: all of them are in the log."""
        self._rows = self._whole = rows
        self._shadows = {name: arrays[name].copy() for name in self._rewritten}

    def take(self, arrays: Mapping[str, Array], *, rows: int, upto: int | None = None) -> NewRows:
        """Return what is new in `arrays`, and count it as given out.

        Args:
            arrays: the live ring arrays, each of shape (capacity, ...), of any dtype without Python objects.
            rows: rows written into the ring since the run began (for SB3: environment steps / number of environments);
                the ring position is `rows % capacity`.
            upto: take only the new rows before this one; the rest follows with the next taking, which there must be.

        Raises:
            ValueError: `rows` went back, or the arrays are not of one capacity or hold Python objects.
        """
        capacity = capacity_of(arrays)
        if rows < self._rows:
            raise ValueError(f"{self._rows} rows were given out and cannot be {rows}")
        if missing := {*self._rewritten, *self._shared, *self._shared.values()} - set(arrays):
            raise ValueError(f"no such arrays: {sorted(missing)}")
        first = max(self._rows, rows - capacity)
        end = rows if upto is None else upto
        appended = {name: array for name, array in arrays.items() if name not in self._rewritten}
        stretches = tuple(
            {name: array[stretch] for name, array in appended.items()} for stretch in _stretches(first, end, capacity)
        )
        tail: dict[str, Array] = {}
        rewritten: dict[str, tuple[Array, Array]] = {}
        if upto is None and rows > self._whole:  # else the log, which gets no row, would not hear of what was rewritten
            tail = {name: array[rows % capacity] for name, array in appended.items()}
            new = np.arange(max(self._whole, rows - capacity), rows) % capacity
            rewritten = {name: self._changed(name, arrays[name], new) for name in self._rewritten}
            self._whole = rows
        self._rows = end
        return NewRows(first, end, capacity, stretches, self._shared, tail, rewritten)

    def _changed(self, name: str, array: Array, new: Array) -> tuple[Array, Array]:
        """Return the ring rows of a rewritten array that are new or differ from what was given out, and their values.

        The new ones even where they do not differ: the segment that said so before may be dropped.
        """
        shadow = self._shadows.setdefault(name, np.zeros_like(array))
        mask: Array = (_as_integers(array) != _as_integers(shadow)).any(axis=1)
        mask[new] = True
        changed = np.flatnonzero(mask)
        values = array[changed]
        shadow[changed] = values
        return changed, values


def capacity_of(arrays: Mapping[str, Array]) -> int:
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


def _stretches(first: int, end: int, capacity: int) -> Iterator[slice]:
    """Ring rows of [first, end), at most one turn of the ring."""
    while first < end:
        begin = first % capacity
        count = min(end - first, capacity - begin)
        yield slice(begin, begin + count)
        first += count


def _as_integers(array: Array) -> Array:
    """View an array as (row, integers), for comparisons that tell 0.0 from -0.0 and take a NaN for equal to itself."""
    width = array.dtype.itemsize if array.dtype.itemsize in (1, 2, 4, 8) else 1
    return np.ascontiguousarray(array).view(f"u{width}").reshape(len(array), -1)
