"""Rates of rare events: Wilson's interval of one, and Newcombe's of the difference of two.

Both are right where nothing was counted, which a bootstrap is not. Episodes are taken as independent; what a single
training contributes is told beside a rate by whoever shows it.
"""

from __future__ import annotations

import math

from scipy import stats


def wilson(count: int, of: int, confidence: float) -> tuple[float, float]:
    """Interval of a rate (E. B. Wilson, 1927)."""
    found = stats.binomtest(count, of).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def newcombe(ours: tuple[int, int], theirs: tuple[int, int], confidence: float) -> tuple[float, float]:
    """Interval of our rate minus theirs, each a count and what it is of.

    R. G. Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 1998, method 10.
    """
    (count, of), (other, of_other) = ours, theirs
    rate, rate_other = count / of, other / of_other
    low, high = wilson(count, of, confidence)
    low_other, high_other = wilson(other, of_other, confidence)
    gap = rate - rate_other
    return (
        gap - math.hypot(rate - low, high_other - rate_other),
        gap + math.hypot(high - rate, rate_other - low_other),
    )
