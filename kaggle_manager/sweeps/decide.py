"""What a sweep does next: a pure decision over its trials and their results, without input or output.

    what is known                                                  -> action
    ------------------------------------------------------------   -----------------------------------------
    the newest results are failures at the start, three alike      Halt, naming them
    a result that counts by now is not there yet                   Wait for it
    a trial is among the best share of those judged at its rung    Promote: it continues; the highest rung first
    fewer trials were begun than asked for                         Begin the next one
    a trial is on its way                                          let time pass, until its result counts
    at a rung, none of those judged there went on and lives        Promote the best of them
    otherwise                                                      Done

The share is asynchronous successive halving (ASHA): with each result it is decided anew, and no slot waits for the
slowest trial of a rung. A rung is a pause, never another target: what continues is the same training.

When a result counts is told by a clock of the sweep's own, which counts training steps: `at_once` workers of one speed
share the trials, and a trial that is sent to a rung at one moment is judged there when so many steps have passed. So
what is decided follows from the table and the scores alone: not from how long sessions take, in which order they end,
how many run at once, or what was killed. What comes early waits for its moment; what is late is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

ALIKE_TO_HALT = 3


@dataclass(frozen=True)
class Rules:
    """What of `[sweep]` decides.

    Attributes:
        trials: how many are begun.
        stops: steps at which a trial is judged; the last one is its end.
        at_once: workers that share the trials.
        keeps: of the trials judged at a rung the best 1/`keeps` go on; 1: all of them.
        maximize: whether a large score is better.
    """

    trials: int
    stops: tuple[int, ...]
    at_once: int
    keeps: int = 3
    maximize: bool = True


@dataclass(frozen=True)
class TrialView:
    """What is known of one trial.

    Attributes:
        sent: when it was sent to each rung, by the sweep's clock, the first one first.
        scores: one for each rung it has reached.
        failed: it has failed on its way to the next one, and never continues.
    """

    number: int
    sent: tuple[int, ...] = (0,)
    scores: tuple[float, ...] = ()
    failed: bool = False

    @property
    def goal(self) -> int:
        """The rung it is sent to, from 0."""
        return len(self.sent) - 1

    @property
    def is_on_its_way(self) -> bool:
        return not self.failed and len(self.scores) <= self.goal


@dataclass(frozen=True)
class Begin:
    """Begin one more trial, `at` this moment of the sweep's clock."""

    at: int


@dataclass(frozen=True)
class Promote:
    """Let a trial go on to rung `goal`, `at` this moment of the sweep's clock."""

    number: int
    goal: int
    at: int


@dataclass(frozen=True)
class Wait:
    """Nothing is to be decided before a trial on its way is judged."""


@dataclass(frozen=True)
class Done:
    """Every trial is over."""


@dataclass(frozen=True)
class Halt:
    """Stop the sweep: the last trials all failed at their start in the same way, and the next one would, too."""

    why: str


Action = Begin | Promote | Wait | Done | Halt


def decide(rules: Rules, trials: Sequence[TrialView], failures: Sequence[str] = ()) -> Action:
    """The next action, by the table above.

    Args:
        failures: what each of the newest results was, in the order they came: for a failure at the start what alike
            ones are recognised by, '' for anything else.
    """
    newest = failures[-ALIKE_TO_HALT:]
    if len(newest) == ALIKE_TO_HALT and newest[0] and len({*newest}) == 1:
        return Halt(newest[0])
    ends = [(end, trial) for trial in trials for end in _ends(rules, trial)]
    now = _next_free(rules, trials, sorted(end for end, _ in ends))
    while True:
        if any(trial.is_on_its_way and _ends(rules, trial)[-1] <= now for trial in trials):
            return Wait()
        known = known_at(rules, trials, now)
        if promoted := _promoted(rules, known, now):
            return promoted
        if len(trials) < rules.trials:
            return Begin(now)
        later = [end for end, _ in ends if end > now]
        if not later:
            return next(_last_resort(rules, known, now), Done())
        now = min(later)


def known_at(rules: Rules, trials: Sequence[TrialView], now: int) -> list[TrialView]:
    """The trials with the results that count by `now`."""
    known = []
    for trial in trials:
        counted = sum(end <= now for end in _ends(rules, trial))
        failed = trial.failed and counted > len(trial.scores)
        known.append(replace(trial, scores=trial.scores[:counted], failed=failed))
    return known


def best(rules: Rules, trials: Sequence[TrialView]) -> list[TrialView]:
    """The trials that have a score, best first: one that came further is better, then by its newest score."""
    rungs = range(len(rules.stops) - 1, -1, -1)
    return [trial for rung in rungs for trial in _best_first(rules, trials, rung, only=True)]


def _ends(rules: Rules, trial: TrialView) -> list[int]:
    """When it is judged at each rung it was sent to."""
    begins = (0, *rules.stops)
    return [at + rules.stops[rung] - begins[rung] for rung, at in enumerate(trial.sent)]


def _next_free(rules: Rules, trials: Sequence[TrialView], ends: Sequence[int]) -> int:
    """The first moment at which a worker takes the next trial: they begin one after another, evenly spread."""
    if not trials:
        return 0
    now = max(trial.sent[-1] for trial in trials) + rules.stops[0] // rules.at_once
    under_way = [end for end in ends if end > now]
    return under_way[-rules.at_once] if len(under_way) >= rules.at_once else now


def _promoted(rules: Rules, known: Sequence[TrialView], now: int) -> Promote | None:
    """The first of those that are among the best share of their rung and have not gone on."""
    for rung in _below_the_end(rules):
        judged = _best_first(rules, known, rung)
        for trial in judged[: len(judged) // rules.keeps]:
            if trial.goal == rung and not trial.failed:
                return Promote(trial.number, rung + 1, now)
    return None


def _last_resort(rules: Rules, known: Sequence[TrialView], now: int) -> Iterator[Promote]:
    """Where too few were judged for a share of them, or those that went on have failed: the best one all the same."""
    for rung in _below_the_end(rules):
        judged = _best_first(rules, known, rung)
        if not any(trial.goal > rung and not trial.failed for trial in judged):
            yield from (Promote(trial.number, rung + 1, now) for trial in judged if not trial.failed)


def _below_the_end(rules: Rules) -> range:
    return range(len(rules.stops) - 2, -1, -1)


def _best_first(rules: Rules, trials: Sequence[TrialView], rung: int, *, only: bool = False) -> list[TrialView]:
    """Those judged at `rung`, with `only` those that came no further; of equal ones the first begun is better."""
    judged = [trial for trial in trials if len(trial.scores) > rung and not (only and len(trial.scores) > rung + 1)]
    sign = -1 if rules.maximize else 1
    return sorted(judged, key=lambda trial: (sign * trial.scores[rung], trial.number))
