"""Effect sizes that ask only which of two delays is lower, so that a gridlocked episode counts as one and no more."""

from __future__ import annotations

import numpy as np
from scipy import stats

from validation_ch7.section_7_6_rl_performance.second_study.judging import crossed_bootstrap
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate, Values


def cliffs_delta(ours: Values, theirs: Values) -> float:
    """Over all pairs of an episode of ours and one of theirs: share in which ours is lower minus share in which it is
    higher (N. Cliff, "Dominance statistics", Psychological Bulletin 1993). From -1 to 1; positive is better."""
    mine, other = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    return 1 - 2 * float(stats.mannwhitneyu(mine, other).statistic) / (mine.size * other.size)


def probability_of_improvement(ours: Values, theirs: Values, resamples: int) -> Estimate:
    """That our delay is lower than theirs in the same traffic; a tie counts half.

    Args:
        ours, theirs: shapes `(trainings, traffic seeds)`, with the same traffic seeds.
    """
    gaps = ours[:, None, :] - theirs[None, :, :]
    wins = np.where(np.isnan(gaps), np.nan, (gaps < 0) + 0.5 * (gaps == 0))
    return crossed_bootstrap.mean(wins.mean(axis=1), resamples)
