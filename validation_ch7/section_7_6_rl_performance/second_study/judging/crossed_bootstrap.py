"""Crossed bootstrap: how sure a mean over trainings and traffic seeds is, when both could have been others.

Values lie in a matrix of shape `(trainings, traffic seeds)`; NaN where an episode was not played or does not count.
Rows and columns are drawn anew, each with replacement, and a cell counts as often as its row and its column were drawn
together: the pigeonhole bootstrap (A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007), which
needs no full matrix. A baseline is a matrix of one row. Controllers that are compared meet the same drawn traffic.

The interval is the estimate -/+ t times the bootstrap's standard error. Percentiles of a bootstrap over ten trainings
are too narrow (T. C. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015): the
standard error is enlarged by sqrt(n / (n - 1)), and t has n - 1 degrees of freedom, where n is the number of trainings,
or of traffic seeds where those are fewer or nothing was trained. Of one factor alone it is Student's interval.

Where the trainings share the traffic by turns, what traffic does to both sides does not cancel in the draws: the
interval of a difference is then too wide rather than too narrow. `paired_by_training` is the analysis beside it in
which it cancels: Student's, over the trainings' own mean differences.

Promises: the same numbers in, the same numbers out; no interval where there is nothing to draw from: fewer than two
traffic seeds, or trainings where there are several, of which an episode counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]
BOOTSTRAP_SEED = 76


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the degrees of freedom of that.

    Attributes:
        value: NaN where no episode counts.
        error: None where there was nothing to draw from.
        freedom: 0 where there was nothing to draw from.
    """

    value: float
    error: float | None
    freedom: int

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The two-sided interval; None where there is none."""
        if self.error is None:
            return None
        reach = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    def p_below(self, bound: float) -> float:
        """p-value of "the value is at least `bound`"; doubled, so that it agrees with the two-sided interval."""
        return self._p(self.value - bound)

    def p_above(self, bound: float) -> float:
        """p-value of "the value is at most `bound`", likewise."""
        return self._p(bound - self.value)

    def _p(self, distance: float) -> float:
        if self.error is None:
            return 1.0
        if self.error == 0:
            return 1.0 if distance >= 0 else 0.0
        return min(1.0, 2 * float(stats.t.cdf(distance / self.error, self.freedom)))


def mean(values: Values, resamples: int) -> Estimate:
    """The mean of a controller's episodes."""
    return _estimate([values], [1.0], resamples)


def difference(ours: Values, theirs: Values, resamples: int) -> Estimate:
    """Mean of `ours` minus mean of `theirs`, whose columns are the same traffic seeds.

    Raises:
        ValueError: the numbers of columns differ.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError("what is compared did not meet the same traffic")
    return _estimate([ours, theirs], [1.0, -1.0], resamples)


def paired_by_training(ours: Values, theirs: Values) -> Estimate:
    """Mean over the trainings of each one's mean difference from `theirs`, of one row, in the same traffic.

    A cell counts where it does on both sides.
    """
    gaps = ours - theirs
    rows = [row[~np.isnan(row)].mean() for row in gaps if not np.isnan(row).all()]
    if not rows:
        return Estimate(math.nan, None, 0)
    value = float(np.mean(rows))
    if len(rows) < 2:
        return Estimate(value, None, 0)
    return Estimate(value, float(np.std(rows, ddof=1)) / math.sqrt(len(rows)), len(rows) - 1)


def _estimate(matrices: list[Values], signs: list[float], resamples: int) -> Estimate:
    traffic = _draws(matrices[0].shape[1], resamples, 0)
    value, drawn, units = 0.0, np.zeros(resamples), list[int]()
    for number, (matrix, sign) in enumerate(zip(matrices, signs, strict=True), start=1):
        counts = ~np.isnan(matrix)
        if not counts.any():
            return Estimate(math.nan, None, 0)
        value += sign * float(matrix[counts].mean())
        trainings = _draws(matrix.shape[0], resamples, number)
        sums = np.einsum("rt,tj,rj->r", trainings, np.where(counts, matrix, 0.0), traffic, optimize=True)
        sizes = np.einsum("rt,tj,rj->r", trainings, counts.astype(np.float64), traffic, optimize=True)
        with np.errstate(invalid="ignore"):  # where nothing that counts was drawn, the draw is left out
            drawn += sign * sums / sizes
        units += [int(counts.any(axis=axis).sum()) for axis in (0, 1) if matrix.shape[1 - axis] > 1]
    fewest = min(units, default=0)
    if fewest < 2:
        return Estimate(value, None, 0)
    return Estimate(value, float(np.nanstd(drawn)) * math.sqrt(fewest / (fewest - 1)), fewest - 1)


@lru_cache(maxsize=8)
def _draws(levels: int, resamples: int, stream: int) -> Values:
    """How often each of `levels` is drawn, shape `(resamples, levels)`; streams are independent of each other."""
    rng = np.random.default_rng([BOOTSTRAP_SEED, stream])
    return rng.multinomial(levels, np.full(levels, 1 / levels), size=resamples).astype(np.float64)
