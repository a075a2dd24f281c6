"""The mean of several runs at each step, and how sure it is. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from kaggle_manager.dashboard.curves import Points
from kaggle_manager.sweeps.report import interval_of

# The interval of two runs is so wide that it says nothing.
FEWEST_FOR_INTERVAL = 3
MOST_STEPS = 150


@dataclass(frozen=True)
class Mean:
    """The mean at one step.

    Attributes:
        runs: how many have come this far.
        interval: Student's, of the mean, at 95 %; None for fewer than three runs.
    """

    step: int
    value: float
    runs: int
    interval: tuple[float, float] | None


def means_of(curves: Collection[Points]) -> tuple[Mean, ...]:
    """The mean of these runs at each of their steps, as far as two of them have come.

    Between two of its points a run is taken to be on the line between them; before the first and beyond the last one
    it does not count.
    """
    ordered = [sorted(points) for points in curves]
    every = sorted({step for points in ordered for step, _ in points})
    apart = max(1, math.ceil(len(every) / MOST_STEPS))
    found = []
    for step in every[::-1][::apart][::-1]:  # the last one stays
        values = [value for points in ordered if (value := value_at(points, step)) is not None]
        if len(values) > 1:
            interval = interval_of(values) if len(values) >= FEWEST_FOR_INTERVAL else None
            found.append(Mean(step, fmean(values), len(values), interval))
    return tuple(found)


def value_at(points: Sequence[tuple[int, float]], step: int) -> float | None:
    """The value of a curve at a step, on the line between its neighbours; None outside of the curve."""
    after = bisect_left(points, step, key=lambda point: point[0])
    if after == len(points):
        return None
    end, high = points[after]
    if end == step:
        return high
    if after == 0:
        return None
    begin, low = points[after - 1]
    return low + (high - low) * (step - begin) / (end - begin)
