"""Puts the statistics together: what a table says of a controller, and what is concluded from two.

The unit of every table is the episode. Endpoints as declared: the mean delay over the episodes without gridlock and the
share of gridlocked ones stand side by side; the mean over all episodes is the sensitivity analysis.

Promises: pure; the same episodes give the same numbers; no verdict without an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode
from validation_ch7.section_7_6_rl_performance.second_study.judging import crossed_bootstrap
from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import Estimate, Values
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Judgement
from validation_ch7.section_7_6_rl_performance.second_study.judging.effect_sizes import (
    cliffs_delta,
    probability_of_improvement,
)
from validation_ch7.section_7_6_rl_performance.second_study.judging.rates import newcombe, wilson
from validation_ch7.section_7_6_rl_performance.second_study.judging.verdicts import Verdict, judge

Trainings = Sequence[Sequence[Episode]]
"""For each training, or once for a baseline, its episodes in any order."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """One controller; seconds a trip unless said otherwise. Means are over episodes.

    Attributes:
        trainings: 1 for a baseline.
        delay: mean over the episodes without gridlock.
        delay_of_all: mean over all episodes.
        median: of all episodes.
        inside, outside: the two parts of the delay of the episodes without gridlock: lost in the network, and waited
            for before entering it.
        p95, worst: mean over episodes of the 95th percentile of trips; the worst trip of all.
        gridlocked, episodes: how many of how many.
        gridlock_interval: of that share.
        trainings_gridlocked: trainings with at least one gridlocked episode.
        onsets_s: when the gridlocks began, after the beginning, in order.
        demand: vehicles due in an episode, their mean.
        stops: a trip.
        switches_h: changes of green an hour.
        longest_red_s: the longest that vehicles stood without green, in any episode without gridlock.
    """

    controller: str
    trainings: int
    delay: Estimate
    delay_of_all: Estimate
    median: float
    inside: float
    outside: float
    p95: float
    worst: float
    gridlocked: int
    episodes: int
    gridlock_interval: Interval
    trainings_gridlocked: int
    onsets_s: tuple[float, ...]
    demand: float
    stops: float
    switches_h: float
    longest_red_s: float


@dataclass(frozen=True)
class Comparison:
    """The main agent against another controller; negative differences are better.

    Attributes:
        delay: difference of the means over the episodes without gridlock.
        relative: the same as a share of the other's mean.
        verdict, p_better: of `delay`, after Holm's correction over the declared comparisons.
        delay_of_all, verdict_of_all: sensitivity: the difference over all episodes, and what would be its verdict.
        by_training, verdict_by_training: likewise of Student's interval over the trainings' paired mean differences.
        gridlock: difference of the shares of gridlocked episodes, and its interval.
        wins: by the declared criterion, on both endpoints.
        cliffs_delta, improvement: of all episodes; positive, and above one half, are better.
    """

    other: str
    delay: Estimate
    relative: float
    verdict: Verdict
    p_better: float
    delay_of_all: Estimate
    verdict_of_all: Verdict
    by_training: Estimate
    verdict_by_training: Verdict
    gridlock: float
    gridlock_interval: Interval
    wins: bool
    cliffs_delta: float
    improvement: Estimate

    @property
    def same_of_all(self) -> bool:
        """Whether the verdict over all episodes would be the same."""
        return self.verdict_of_all == self.verdict

    @property
    def same_by_training(self) -> bool:
        """Whether that of the trainings' paired differences would."""
        return self.verdict_by_training == self.verdict


def allowed_gridlocks(judgement: Judgement, episodes: int) -> int:
    """How many of the agent's `episodes` may be gridlocked where none of a baseline's is; -1 where 0 are too many."""
    rates = (newcombe((count, episodes), (0, episodes), judgement.confidence) for count in range(episodes))
    return sum(1 for _ in takewhile(lambda rate: rate[1] < judgement.gridlock_margin, rates)) - 1


def summarise(controller: str, trainings: Trainings, judgement: Judgement) -> Summary:
    """What the tables say of a controller."""
    every = [episode for episodes in trainings for episode in episodes]
    clear = [episode for episode in every if episode.gridlock_onset_s is None]
    onsets = sorted(episode.gridlock_onset_s for episode in every if episode.gridlock_onset_s is not None)
    return Summary(
        controller=controller,
        trainings=len(trainings),
        delay=crossed_bootstrap.mean(delays(trainings, without_gridlock=True), judgement.resamples),
        delay_of_all=crossed_bootstrap.mean(delays(trainings), judgement.resamples),
        median=float(np.median([episode.mean_delay_s for episode in every])),
        inside=_mean([episode.mean_inside_s for episode in clear]),
        outside=_mean([episode.mean_outside_s for episode in clear]),
        p95=_mean([episode.p95_delay_s for episode in every]),
        worst=max(episode.worst_delay_s for episode in every),
        gridlocked=len(onsets),
        episodes=len(every),
        gridlock_interval=wilson(len(onsets), len(every), judgement.confidence),
        trainings_gridlocked=sum(any(each.gridlock_onset_s is not None for each in found) for found in trainings),
        onsets_s=tuple(onsets),
        demand=_mean([episode.demand for episode in every]),
        stops=_mean([episode.mean_stops for episode in every]),
        switches_h=_mean([episode.switches_h for episode in every]),
        longest_red_s=max((float(episode.longest_red_s) for episode in clear), default=float("nan")),
    )


def compare(ours: Trainings, others: Mapping[str, Trainings], judgement: Judgement) -> list[Comparison]:
    """The main agent against each of the others, which were declared together.

    Raises:
        ValueError: one of them did not meet the same traffic.
    """
    for name, theirs in others.items():
        if _traffic(ours) != _traffic(theirs):
            raise ValueError(f"the agent and {name} did not meet the same traffic")
    clear = {name: _difference(ours, theirs, judgement, without_gridlock=True) for name, theirs in others.items()}
    of_all = {name: _difference(ours, theirs, judgement) for name, theirs in others.items()}
    mine = delays(ours, without_gridlock=True)
    by_training = {
        name: crossed_bootstrap.paired_by_training(mine, delays(theirs, without_gridlock=True))
        for name, theirs in others.items()
    }
    judged, judged_of_all, judged_by_training = (
        judge(each, judgement.margin_s, judgement.confidence) for each in (clear, of_all, by_training)
    )
    counts, all_of_ours, found = _gridlocked(ours), delays(ours), []
    for name, theirs in others.items():
        other_counts, all_of_theirs = _gridlocked(theirs), delays(theirs)
        interval = newcombe(counts, other_counts, judgement.confidence)
        found.append(
            Comparison(
                other=name,
                delay=clear[name],
                relative=clear[name].value / float(np.nanmean(delays(theirs, without_gridlock=True))),
                verdict=judged[name].verdict,
                p_better=judged[name].p_better,
                delay_of_all=of_all[name],
                verdict_of_all=judged_of_all[name].verdict,
                by_training=by_training[name],
                verdict_by_training=judged_by_training[name].verdict,
                gridlock=counts[0] / counts[1] - other_counts[0] / other_counts[1],
                gridlock_interval=interval,
                wins=judged[name].verdict == "better" and interval[1] < judgement.gridlock_margin,
                cliffs_delta=cliffs_delta(all_of_ours, all_of_theirs),
                improvement=probability_of_improvement(all_of_ours, all_of_theirs, judgement.resamples),
            )
        )
    return found


def delays(trainings: Trainings, *, without_gridlock: bool = False) -> Values:
    """Mean delay of each episode, shape `(trainings, traffic seeds)`; NaN where none was played or counts."""
    columns = {seed: column for column, seed in enumerate(sorted(_traffic(trainings)))}
    found = np.full((len(trainings), len(columns)), np.nan)
    for row, episodes in enumerate(trainings):
        for episode in episodes:
            if not (without_gridlock and episode.gridlock_onset_s is not None):
                found[row, columns[episode.seed]] = episode.mean_delay_s
    return found


def _traffic(trainings: Trainings) -> set[int]:
    return {episode.seed for episodes in trainings for episode in episodes}


def _difference(
    ours: Trainings, theirs: Trainings, judgement: Judgement, *, without_gridlock: bool = False
) -> Estimate:
    return crossed_bootstrap.difference(
        delays(ours, without_gridlock=without_gridlock),
        delays(theirs, without_gridlock=without_gridlock),
        judgement.resamples,
    )


def _gridlocked(trainings: Trainings) -> tuple[int, int]:
    every = [episode for episodes in trainings for episode in episodes]
    return sum(episode.gridlock_onset_s is not None for episode in every), len(every)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
