"""Several runs towards one end: each with its own lineage and tree, sharing session slots and quota fairly.

A campaign is passes over its members (`ValidationKaggleManager.tick`): those with a live session are looked at, what
they left is brought home, and free slots go to the members that `runs.slots` says. A member that fails, needs the
user, or meets a defect of this program does not hold up the others; the campaign then ends with its error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import Interrupted, KaggleManagerError, QuotaError
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.orchestrator.start import SharedSession
from kaggle_manager.runs.lanes import SOON_S, shared_by
from kaggle_manager.runs.slots import Candidate, who_starts
from kaggle_manager.status.overview import Overview, by_urgency
from kaggle_manager.status.report import LIVE, RunReport
from kaggle_manager.system.formatting import epoch, for_people

# Between two rounds: brisk while something changes, slow while nothing does.
FIRST_PAUSE_S, LONGEST_PAUSE_S, GROWTH = 1.0, 60.0, 1.5


@dataclass
class Member:
    """One run of a campaign: what it trains, where it stood last, and what ended it.

    Attributes:
        pause_at: a step at which it is over for now; its target stays what it is. None: it continues to its target.
        not_before: no session of it is started before this time, in seconds since the epoch.
        warned: what was said of it last, and is not said again.
    """

    config: RunConfig
    pause_at: int | None = None
    report: RunReport | None = None
    error: Exception | None = None
    not_before: float = 0.0
    warned: str = ""

    @property
    def name(self) -> str:
        seed = "" if self.config.seed is None else f"seed {self.config.seed}"
        trial = f"trial {self.config.trial.number}" if self.config.trial else ""
        return ", ".join(filter(None, (trial, seed))) or "its own seed"

    @property
    def is_live(self) -> bool:
        return self.report is not None and self.report.state in LIVE

    @property
    def session(self) -> tuple[str, str | None] | None:
        """Which session of the platform it has or had last; several members may share one."""
        newest = self.report.sessions[-1] if self.report and self.report.sessions else None
        return (newest.address, newest.version) if newest else None

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.is_paused or (self.report is not None and self.report.state == "finished")

    @property
    def is_paused(self) -> bool:
        """Whether it has come to where it pauses."""
        return self.pause_at is not None and self.report is not None and self.step >= self.pause_at and not self.is_live

    @property
    def next_session(self) -> RunConfig:
        """The configuration its next session is started with: one that ends at the pause."""
        if self.pause_at is None:
            return self.config
        return replace(self.config, max_steps=max(1, self.pause_at - self.step))

    @property
    def step(self) -> int:
        return self.report.step if self.report else 0

    @property
    def candidate(self) -> Candidate:
        in_line = self.report is not None and self.report.in_line
        return Candidate(self.step / self.config.target, self.not_before, in_line)


def seeds_of(config: RunConfig, count: int) -> list[int | None]:
    """The first `count` training seeds: those the section declares for its study, else consecutive ones."""
    own = config.section.scenario(config.scenario_name).seed or 0
    seeds = config.section.training_seeds
    seeds += [own + n for n in range(count) if own + n not in seeds]
    return [None if seed == own else seed for seed in seeds[:count]]


@dataclass
class Campaign:
    """Runs of one section, carried on together.

    Args:
        configs: one for each member.
        max_sessions: most sessions at once; None: as many as the platform has room for.
        clock, sleep: seconds since the epoch; wait so many seconds.
    """

    manager: ValidationKaggleManager
    configs: Sequence[RunConfig]
    reporter: Reporter
    max_sessions: int | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    members: list[Member] = field(init=False)
    _pause_s: float = field(default=FIRST_PAUSE_S, init=False)

    def __post_init__(self) -> None:
        self.members = [Member(config) for config in self.configs]

    def run(self) -> Overview:
        """Go round until every member is over.

        Raises:
            KaggleManagerError, Exception: what ended a member, once all the others are over.
        """
        for member in self.members:
            self.begin(member)
        while not all(member.is_over for member in self.members):
            self.round_and_pause()
        self.is_finished()
        return self.overview()

    def begin(self, member: Member) -> None:
        """Let a member go on, also one that was stopped."""
        with self._errors_of(member):
            self.manager.go_on(member.config)
            member.config = replace(member.config, image="")  # a move is made once, not with each pass

    def round_and_pause(self) -> None:
        """A round, and the wait after it, unless it has brought a member to its end: brisk while something changes."""
        before, over = self._where(), sum(member.is_over for member in self.members)
        self.round()
        if sum(member.is_over for member in self.members) > over:
            return
        self._pause_s = FIRST_PAUSE_S if self._where() != before else min(LONGEST_PAUSE_S, self._pause_s * GROWTH)
        self.sleep(self._pause_s)

    def round(self) -> None:
        """One pass over all members: first what lives or ended, then what may start."""
        for member in self.members:
            if not member.is_over:
                self._tick(member, may_push=False)
        idle = [member for member in self.members if not member.is_over and not member.is_live]
        candidates, now = [member.candidate for member in idle], self.clock()
        if any(each.not_before <= now for each in candidates):
            free = self._free()
            starting = [idle[number] for number in who_starts(candidates, free * self.lanes, now)]
            for members in shared_by(starting, self.lanes, free, more_come=self._more_come(idle)):
                self._start(members)

    def _more_come(self, idle: Sequence[Member]) -> bool:
        """Whether more members can start soon: they wait a little, or their session has ended as others of it saw."""
        soon = any(self.clock() < member.not_before <= self.clock() + SOON_S for member in idle)
        ended = {member.session for member in idle}
        return soon or any(member.is_live and member.session in ended for member in self.members)

    @property
    def lanes(self) -> int:
        """Most members that share a session."""
        return self.configs[0].section.kernel.lanes

    def room(self) -> int:
        """How many of its members may be on their way at once; see `sessions`."""
        return self.sessions() * self.lanes

    def sessions(self) -> int:
        """How many sessions they may have at once; the platform's room may change while a campaign lasts."""
        try:
            room = self.manager.room_for(self.configs[0])
        except KaggleManagerError as error:
            if not error.retryable:
                raise
            self.reporter.warn(f"nothing is started now: {error.message}")
            return 0
        return room if self.max_sessions is None else min(room, self.max_sessions)

    def _free(self) -> int:
        """How many sessions may be started now."""
        return max(0, self.sessions() - len({member.session for member in self.members if member.is_live}))

    def is_finished(self) -> bool:
        """Whether every member has reached its target.

        Raises:
            KaggleManagerError: what ended a member.
        """
        for member in self.members:
            if member.error is not None:
                raise member.error
        return all(member.is_over for member in self.members)

    def overview(self) -> Overview:
        reports = [member.report for member in self.members if member.report]
        return Overview(by_urgency(reports), self.configs[0].section.name)

    def _start(self, members: Sequence[Member]) -> None:
        """Start one session for these members, each in a lane of its own where they are several."""
        if self.lanes == 1:
            self._tick(members[0], may_push=True)
            return

        def begin(member: Member) -> Callable[[SharedSession], None]:
            return lambda shared: self._tick(member, may_push=True, shared=shared)

        SharedSession([begin(member) for member in members]).begin()

    def _tick(self, member: Member, *, may_push: bool, shared: SharedSession | None = None) -> None:
        with self._errors_of(member):
            with self.reporter.about(member.name):
                member.report = self.manager.tick(member.next_session, may_push=may_push, shared=shared)
            member.warned = "" if member.is_live else member.warned
            until = member.report.waiting_until
            member.not_before = epoch(until) if until else 0.0
            if member.report.state == "waiting" and until and not may_push:
                self.reporter.phase(f"{member.name} waits until {for_people(epoch(until))}")

    @contextmanager
    def _errors_of(self, member: Member) -> Iterator[None]:
        """One member's error does not stop the others; what time may help is tried again."""
        try:
            yield
        except Interrupted:  # of no member: the user ends the campaign
            raise
        except KaggleManagerError as error:
            if error.retryable:  # the journal says until when
                if error.message != member.warned:
                    self.reporter.warn(f"{member.name}: {error.message}")
                member.warned, member.not_before = error.message, self.clock() + LONGEST_PAUSE_S
                if isinstance(error, QuotaError) and member.report is not None:  # nothing of it runs
                    member.report = replace(member.report, state="waiting", in_line=False)
            else:
                self.reporter.warn(f"{member.name} needs you: {error}")
                member.error = error
        except Exception as error:  # a defect, or what this machine refused: raised at the end as well
            self.reporter.warn(f"{member.name} is left where it is: {error!r}")
            member.error = error

    def _where(self) -> list[tuple[str, int]]:
        return [(member.report.state if member.report else "", member.step) for member in self.members]
