"""Where a sweep stands and what it found, as an object, as JSON and in lines; and how sure its best trials are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

from kaggle_manager.config import workdir_of
from kaggle_manager.sections.trial import state_of_study
from kaggle_manager.sweeps.decide import Done, best, decide
from kaggle_manager.sweeps.study import Study
from kaggle_manager.system.command_line import WhichTree

SWEEP_SCHEMA = 1
# Student's t at 97.5 %, by degrees of freedom from 1; beyond, two terms of its expansion about the normal one.
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)
_Z = 1.959964


@dataclass(frozen=True)
class TrialReport:
    """One trial.

    Attributes:
        state: `running`, `paused`, `complete` or `failed`; see `SweepReport.with_runs`.
        scenario: its name for the other commands: `--scenario`.
        steps, scores: where it was judged.
        failure: in words; '' for none.
        tree: the command that lists its checkpoints.
    """

    number: int
    scenario: str
    state: str
    values: Mapping[str, Any]
    steps: tuple[int, ...]
    scores: tuple[float, ...]
    failure: str
    tree: str


@dataclass(frozen=True)
class Confirmed:
    """A trial under seeds it was not chosen by.

    Attributes:
        scores: one for each seed that ended. interval: Student's, of the mean, at 95 %; None for fewer than two.
    """

    number: int
    scores: tuple[float, ...]
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SweepReport:
    """A sweep.

    Attributes:
        best: numbers of the trials with a score, the best one first.
        halted: why it waits for you; '' for nothing.
    """

    section: str
    scenario: str
    metric: str
    direction: str
    rungs: tuple[int, ...]
    trials: tuple[TrialReport, ...]
    best: tuple[int, ...]
    halted: str
    confirmed: tuple[Confirmed, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"schema": SWEEP_SCHEMA, **asdict(self)}

    def with_runs(self, states: Mapping[str, str]) -> SweepReport:
        """With the state of its run for each trial that is on its way: it may be waiting for a slot.

        Args:
            states: scenario -> state of the run.
        """
        return replace(self, trials=tuple(_with_run(each, states) for each in self.trials))

    def trial(self, number: int) -> TrialReport:
        return next(each for each in self.trials if each.number == number)

    def lines(self) -> Iterator[str]:
        """All trials, and the best one."""
        ended = sum(each.state == "complete" for each in self.trials)
        yield f"sweep of {self.section}/{self.scenario} by {self.metric}: {len(self.trials)} trials, {ended} to the end"
        for each in self.trials:
            came = ", ".join(f"{score:g} at {step:,}" for step, score in zip(each.steps, each.scores, strict=True))
            yield f"  trial {each.number}  {each.state:<11}  {came or each.failure or 'no score yet'}"
        if self.halted:
            yield f"it waits for you: {self.halted}"
        yield from self.best_lines()

    def best_lines(self) -> Iterator[str]:
        """The best trial, and what was confirmed."""
        if not self.best:
            yield "no trial has a score yet"
            return
        first = self.trial(self.best[0])
        yield f"best: trial {first.number}, {self.metric} {first.scores[-1]:g} at step {first.steps[-1]:,}"
        for key, value in first.values.items():
            yield f"  {key} = {value}"
        yield f"  its training tree: {first.tree}"
        for each in self.confirmed:
            low, high = each.interval or (math.nan, math.nan)
            mean = math.nan if each.mean is None else each.mean
            yield (
                f"trial {each.number} under {len(each.scores)} fresh seeds: {self.metric} {mean:g}, "
                f"95 % interval of the mean {low:g} to {high:g}"
            )


def _with_run(trial: TrialReport, states: Mapping[str, str]) -> TrialReport:
    return replace(trial, state=states.get(trial.scenario, trial.state)) if trial.state == "running" else trial


def report_of(study: Study, confirmed: Mapping[int, Sequence[float]] | None = None) -> SweepReport:
    """What a study says."""
    views, sweep, stops = study.views(), study.sweep, study.state.stops
    trials, workdir = [], workdir_of(state_of_study(study.folder))
    for begun, view in zip(study.state.trials, views, strict=True):
        results = study.results_of(view.number)
        state = "failed" if view.failed else "running" if view.is_on_its_way else "paused"
        scenario = study.trial(view.number).name
        trials.append(
            TrialReport(
                number=view.number,
                scenario=scenario,
                state="complete" if len(view.scores) == len(stops) else state,
                values=begun.values,
                steps=tuple(result.step for result in results if result.score is not None),
                scores=view.scores,
                failure=next((result.failure for result in results if result.failure), ""),
                tree=WhichTree(study.folder.name, scenario, workdir=workdir).command("checkpoints ls"),
            )
        )
    return SweepReport(
        section=study.folder.name,
        scenario=study.state.scenario,
        metric=sweep.metric,
        direction=sweep.direction,
        rungs=stops,
        trials=tuple(trials),
        best=tuple(view.number for view in best(study.rules(len(views)), views)),
        halted=study.state.halted,
        confirmed=tuple(_confirmed(number, scores) for number, scores in (confirmed or {}).items()),
    )


def is_over(study: Study) -> bool:
    """Whether nothing is left to do of the trials that its table asks for."""
    views = study.views()
    rules = study.rules(max(study.sweep.trials, len(views)))
    return isinstance(decide(rules, views, study.failures()), Done)


def _confirmed(number: int, scores: Sequence[float]) -> Confirmed:
    mean = fmean(scores) if scores else None
    return Confirmed(number, tuple(scores), mean, interval_of(scores))


def interval_of(scores: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % confidence interval of the mean of independent scores; None for fewer than two."""
    if len(scores) < 2:
        return None
    freedom = len(scores) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else _t_of_many(freedom)
    half = t * stdev(scores) / math.sqrt(len(scores))
    return fmean(scores) - half, fmean(scores) + half


def _t_of_many(freedom: int) -> float:
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
