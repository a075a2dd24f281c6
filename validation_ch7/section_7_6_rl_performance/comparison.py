"""Statistics of the comparison, with SciPy: means, interquartile means, bootstrap intervals, effects, verdicts.

The unit of analysis is the training when all declared training seeds were trained, else the held-out episode: with
fewer trainings the intervals speak of these models on other traffic, not of the method. Because every controller meets
the same traffic, differences are taken within an episode before anything is averaged.

Promises: the same numbers in, the same numbers out (the bootstrap has a fixed seed); no interval where one unit gives
none. Why SciPy and not rliable: `docs/decisions/statistics.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from validation_ch7.section_7_6_rl_performance.episodes import Episode
from validation_ch7.section_7_6_rl_performance.protocol import Protocol, Verdict

Values = npt.NDArray[np.float64]
BOOTSTRAP_SEED = 76


@dataclass(frozen=True)
class Estimate:
    """A value and its bootstrap interval; an interval of None where there is a single unit."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """One controller's delay, in seconds a trip.

    Attributes:
        trainings, episodes: trained models (1 for a baseline) and episodes of each.
        mean, iqm: over the units of analysis.
        median: over all episodes.
        gridlocked: episodes in which too little of the demand got through, of `trainings * episodes`.
        unfinished, never_inserted: vehicles an episode, on average.
    """

    controller: str
    trainings: int
    episodes: int
    mean: Estimate
    iqm: Estimate
    median: float
    gridlocked: int
    unfinished: float
    never_inserted: float

    @property
    def gridlocked_share(self) -> float:
        return self.gridlocked / (self.trainings * self.episodes)


@dataclass(frozen=True)
class Comparison:
    """The agent against one baseline.

    Attributes:
        difference: mean delay of the agent minus the baseline's, in seconds a trip; negative is better.
        relative: the same as a share of the baseline's mean delay.
        effect_size: mean over standard deviation of the units' differences (Cohen's d for paired samples); None where
            it is not defined.
        probability: that the agent's delay is lower than the baseline's in the same traffic; a tie counts half.
    """

    baseline: str
    difference: Estimate
    relative: float
    effect_size: float | None
    probability: Estimate
    verdict: Verdict


def summarise(controller: str, trainings: Sequence[Sequence[Episode]], protocol: Protocol) -> Summary:
    """Summary of a controller: one sequence of episodes for each trained model, or one for a baseline."""
    delays = delay_matrix(trainings)
    every = [episode for episodes in trainings for episode in episodes]
    units = units_of(delays, protocol)
    return Summary(
        controller=controller,
        trainings=delays.shape[0],
        episodes=delays.shape[1],
        mean=estimate(units, np.mean, protocol),
        iqm=estimate(units, interquartile_mean, protocol),
        median=float(np.median(delays)),
        gridlocked=sum(episode.completed_share < protocol.gridlock_completed_below for episode in every),
        unfinished=float(np.mean([episode.metrics.unfinished for episode in every])),
        never_inserted=float(np.mean([episode.metrics.never_inserted for episode in every])),
    )


def compare(
    agent: Sequence[Sequence[Episode]], baseline: Sequence[Episode], name: str, protocol: Protocol
) -> Comparison:
    """The agent's trainings against a baseline in the same traffic.

    Raises:
        ValueError: the episodes are not of the same seeds.
    """
    seeds = [episode.seed for episode in baseline]
    if any([episode.seed for episode in episodes] != seeds for episodes in agent):
        raise ValueError(f"agent and {name} did not meet the same traffic")
    theirs = delay_matrix([baseline])
    gaps = delay_matrix(agent) - theirs
    units = units_of(gaps, protocol)
    spread = float(np.std(units, ddof=1)) if len(units) > 1 else 0.0
    difference = estimate(units, np.mean, protocol)
    wins = units_of((gaps < 0) + 0.5 * (gaps == 0), protocol)
    ours, others = summarise("agent", agent, protocol), summarise(name, [baseline], protocol)
    return Comparison(
        baseline=name,
        difference=difference,
        relative=difference.value / float(theirs.mean()),
        effect_size=difference.value / spread if spread > 0 else None,
        probability=estimate(wins, np.mean, protocol),
        verdict="no difference"
        if difference.low is None or difference.high is None
        else protocol.verdict(difference.low, difference.high, ours.gridlocked_share, others.gridlocked_share),
    )


def delay_matrix(trainings: Sequence[Sequence[Episode]]) -> Values:
    """Mean delay of each episode, shape `(trainings, episodes)`."""
    return np.array([[episode.metrics.mean_delay_s for episode in episodes] for episodes in trainings])


def by_training(trainings: int, protocol: Protocol) -> bool:
    """Whether the unit of analysis is the training."""
    return trainings > 1 and trainings >= len(protocol.training_seeds)


def units_of(matrix: Values, protocol: Protocol) -> Values:
    """One value for each unit of analysis, from a matrix of shape `(trainings, episodes)`."""
    return np.asarray(matrix.mean(axis=1 if by_training(matrix.shape[0], protocol) else 0))


def interquartile_mean(values: Values, axis: int = -1) -> Values:
    """Mean of the middle half."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def estimate(units: Values, statistic: Callable[..., Values], protocol: Protocol) -> Estimate:
    """A statistic of the units and its percentile bootstrap interval."""
    value = float(statistic(units, axis=-1))
    if len(units) < 2:
        return Estimate(value, None, None)
    found = stats.bootstrap(
        (units,),
        statistic,
        n_resamples=protocol.resamples,
        confidence_level=protocol.confidence,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high))
