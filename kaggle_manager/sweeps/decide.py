"""What a sweep does next: a pure decision over its trials and their results, without input, output or clock.

    what is known                                                  -> action
    ------------------------------------------------------------   -----------------------------------------
    the newest results are failures at the start, three alike      Halt, naming them
    a trial is among the best share of those judged at its rung    Promote: it goes on; the highest rung first
    fewer trials were begun than asked for                         Begin the next one
    a trial is on its way                                          Wait for it
    at a rung, none of those judged there went on and lives        Promote the best of them
    otherwise                                                      Done

The share is asynchronous successive halving (ASHA): with each result it is decided anew, so no slot waits for the
slowest trial of a rung. A rung is a pause, never another target: what goes on is the same training. The same results
in the same order give the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIKE_TO_HALT = 3


@dataclass(frozen=True)
class Rules:
    """What of `[sweep]` decides.

    Attributes:
        trials: how many are begun.
        rungs: how often a trial is judged, its end included.
        keeps: of the trials judged at a rung the best 1/`keeps` go on; 1: all of them.
        maximize: whether a large score is better.
    """

    trials: int
    rungs: int
    keeps: int = 3
    maximize: bool = True


@dataclass(frozen=True)
class TrialView:
    """What is known of one trial.

    Attributes:
        goal: the rung it is sent to, from 0.
        scores: one for each rung it has reached, the first one first.
        failed: it has failed, and never goes on.
    """

    number: int
    goal: int = 0
    scores: tuple[float, ...] = ()
    failed: bool = False

    @property
    def is_on_its_way(self) -> bool:
        return not self.failed and len(self.scores) <= self.goal


@dataclass(frozen=True)
class Begin:
    """Begin one more trial."""


@dataclass(frozen=True)
class Promote:
    """Let a trial go on to rung `goal`."""

    number: int
    goal: int


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
        failures: what each of the newest results was, oldest first: for a failure at the start what alike ones are
            recognised by, '' for anything else.
    """
    newest = failures[-ALIKE_TO_HALT:]
    if len(newest) == ALIKE_TO_HALT and newest[0] and len({*newest}) == 1:
        return Halt(newest[0])
    below_the_end = range(rules.rungs - 2, -1, -1)
    for rung in below_the_end:
        judged = _best_first(rules, trials, rung)
        for trial in judged[: len(judged) // rules.keeps]:
            if trial.goal == rung and not trial.failed:
                return Promote(trial.number, rung + 1)
    if len(trials) < rules.trials:
        return Begin()
    if any(trial.is_on_its_way for trial in trials):
        return Wait()
    for rung in below_the_end:
        judged = _best_first(rules, trials, rung)
        if not any(trial.goal > rung and not trial.failed for trial in judged):
            for trial in judged:
                if not trial.failed:
                    return Promote(trial.number, rung + 1)
    return Done()


def best(rules: Rules, trials: Sequence[TrialView]) -> list[TrialView]:
    """The trials that have a score, best first: one that came further is better, then by its newest score."""
    return [trial for rung in range(rules.rungs - 1, -1, -1) for trial in _best_first(rules, trials, rung, only=True)]


def _best_first(rules: Rules, trials: Sequence[TrialView], rung: int, *, only: bool = False) -> list[TrialView]:
    """Those judged at `rung`, with `only` those that came no further; of equal ones the first begun is better."""
    judged = [trial for trial in trials if len(trial.scores) > rung and not (only and len(trial.scores) > rung + 1)]
    sign = -1 if rules.maximize else 1
    return sorted(judged, key=lambda trial: (sign * trial.scores[rung], trial.number))
