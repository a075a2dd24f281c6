"""Carries a sweep on: trials as members of a campaign, over as many sessions at once as there is room for.

Promises: a trial is written down before its run is begun, and its result once, from its tree; a trial that fails ends
that trial alone, unless it is the third in a row that failed alike at its start; killed at any moment, the same command
continues with the same trials. At a rung a trial pauses: its target, and so its schedules, stay what they are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Diverged, KaggleManagerError, KernelFailed, NotFinished, RunError, one_line
from kaggle_manager.orchestrator.campaign import Campaign, Member
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.sweeps.decide import Action, Done, Halt, Promote, Wait, decide
from kaggle_manager.sweeps.sampler import suggest, write_storage
from kaggle_manager.sweeps.scores import names_of, score_of
from kaggle_manager.sweeps.study import STOP_FILE, Result, Study, sweep_command

_NUMBERS = re.compile(r"[0-9a-f]{8,}|\d+")
_LONGEST_FAILURE = 500


@dataclass
class SweepLoop:
    """One sweep, carried on by this process alone (see `study.alone`).

    Args:
        build: the configuration of a scenario's run, of the section as it is, under its own seed or another.
        trials: how many are begun. max_sessions: at once; None: as many as the platform has room for.
    """

    manager: ValidationKaggleManager
    study: Study
    build: Callable[[str, int | None], RunConfig]
    reporter: Reporter
    trials: int
    max_sessions: int | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    campaign: Campaign = field(init=False)

    def __post_init__(self) -> None:
        self.campaign = self._campaign([])

    def run(self) -> None:
        """Until every trial is over.

        Raises:
            NotFinished: it was asked to stop.
            KernelFailed: three trials in a row failed alike at their start.
            Exception: something that no trial is to blame for, once nothing else is on its way.
        """
        self.study.go_on()
        while not self._decide():
            self._check_not_stopped()
            self._send()
            self.campaign.round_and_pause()
            self._collect()
        write_storage(self.study)

    def confirm(self, best: Sequence[int], seeds: Sequence[int]) -> dict[int, list[float]]:
        """Train these trials to their end under other seeds; the scores of each."""
        configs = {(n, seed): self.build(self.study.trial(n).name, seed) for n in best for seed in seeds}
        campaign = self._campaign([*configs.values()])
        try:
            campaign.run()
        except RunError as error:
            self.reporter.warn(f"left out of the result: {error.message}")
        found: dict[int, list[float]] = {number: [] for number in best}
        for ((number, _), config), member in zip(configs.items(), campaign.members, strict=True):
            score = None if member.error else score_of(config, self.study.sweep.metric, member.step)
            found[number] += [] if score is None else [score]
        return found

    def _campaign(self, configs: Sequence[RunConfig]) -> Campaign:
        any_of_it = [*configs] or [self.build(self.study.state.scenario, None)]
        made = Campaign(self.manager, any_of_it, self.reporter, self.max_sessions, self.clock, self.sleep)
        made.members = made.members if configs else []
        return made

    def _decide(self) -> bool:
        """Begin and promote what the results that are here allow; True when every trial is over."""
        known = self.study.state
        while not isinstance(action := self._next(), Wait | Done):
            if isinstance(action, Halt):
                self.study.halt(action.why)
                raise KernelFailed(
                    f"The sweep was stopped: three trials in a row failed alike at their start: {action.why}",
                    safe="every trial; those that are on their way continue on the platform",
                    next_step=f"correct the cause, and run it again: {sweep_command(self.study.folder)}",
                )
            if isinstance(action, Promote):
                self.study.promote(action.number, action.at)
                self.reporter.line(f"trial {action.number} continues to step {self.study.state.stops[action.goal]:,}")
            else:
                trial = self.study.add(suggest(self.study, action.at), action.at)
                told = ", ".join(f"{key} = {value}" for key, value in trial.values.items())
                self.reporter.line(f"trial {trial.number}: {told}")
        if self.study.state is not known:
            write_storage(self.study)
        return isinstance(action, Done)

    def _next(self) -> Action:
        return decide(self.study.rules(self.trials), self.study.views(), self.study.failures())

    def _send(self) -> None:
        """Give those that are on their way to the platform as it has room, in the order they were sent."""
        here = [member.config.scenario_name for member in self.campaign.members]
        waiting = [view for view in self.study.views() if view.is_on_its_way]
        waiting = [view for view in waiting if self.study.trial(view.number).name not in here]
        if not waiting:
            return
        stops = self.study.state.stops
        for view in sorted(waiting, key=lambda view: view.sent[-1])[: max(0, self.campaign.room() - len(here))]:
            config = self.build(self.study.trial(view.number).name, None)
            member = Member(config, None if view.goal == len(stops) - 1 else stops[view.goal])
            self.campaign.members.append(member)
            self.campaign.begin(member)

    def _collect(self) -> None:
        """Write down what came of the trials that are over.

        Raises:
            Exception: what ended one and is no fault of a trial, once no other is on its way.
        """
        metric, members = self.study.sweep.metric, self.campaign.members
        for member in [each for each in members if each.is_over and isinstance(each.error, RunError | None)]:
            result = result_of(member, metric)
            if result.score is None:
                self.reporter.warn(f"{member.name} has failed: {result.failure}")
            else:
                self.reporter.line(f"{member.name}: {metric} {result.score:g} at step {result.step:,}", "bold")
            self.study.tell(result)
            members.remove(member)
            write_storage(self.study)
        left = [member.error for member in members if member.error is not None]
        if left and len(left) == len(members):
            raise left[0]

    def _check_not_stopped(self) -> None:
        stop = self.study.folder / STOP_FILE
        if stop.exists():
            stop.unlink()
            raise NotFinished(
                "The sweep is stopped. Sessions that run continue to their pause, and nothing follows them.",
                safe="every trial",
                next_step=sweep_command(self.study.folder),
            )


def result_of(member: Member, metric: str) -> Result:
    """How a trial that is over came to its rung, or failed by a fault of its own."""
    assert member.config.trial is not None
    number, step = member.config.trial.number, member.step
    if isinstance(member.error, RunError):
        return Result(trial=number, step=step, failure=_in_words(member.error), alike=_alike(member.error, step))
    score = score_of(member.config, metric, step)
    if score is None:
        told = ", ".join(names_of(member.config)) or "nothing"
        why = f"it has told no finite {metric} until step {step:,} (it told {told})"
        return Result(trial=number, step=step, failure=why, alike=_NUMBERS.sub("#", why))
    return Result(trial=number, step=step, score=score)


def _in_words(error: KaggleManagerError) -> str:
    return one_line(error.message, _LONGEST_FAILURE)


def _alike(error: RunError, step: int) -> str:
    """What failures at the start are recognised by; '' for one that has trained, or has run away."""
    return "" if step or isinstance(error, Diverged) else _NUMBERS.sub("#", _in_words(error).partition("Last: ")[2])
