"""Scales and round tick marks of the charts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kaggle_manager.trees.curves import LARGEST


@dataclass(frozen=True)
class Scale:
    """A range of values drawn over 0 to 100 percent."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """The range of `values` with 6 % of room at both ends; never empty. What cannot be drawn is left out."""
        found = [value for value in values if abs(value) < LARGEST] or [0.0, 1.0]
        low, high = min(found), max(found)
        space = (high - low) * 0.06 or max(abs(high) * 0.06, 0.5)
        return cls(low - space, high + space)

    def percent(self, value: float) -> float:
        """Where a value lies, from 0 to 100."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def ticks(self) -> list[float]:
        """About five round values inside the range: steps of 1, 2 or 5 times a power of ten."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / 5))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= span)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def short(value: float) -> str:
    """A tick's label: `1.5 M`, `20,000`, `-0.25`."""
    for limit, unit in ((1e9, " G"), (1e6, " M")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
