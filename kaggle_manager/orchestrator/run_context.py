"""Everything one run is carried out with: its configuration, platform, rows, clock and local training tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, RemoteError
from kaggle_manager.orchestrator import stop_early
from kaggle_manager.orchestrator.open_run import limits_of, open_run, settings_of
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.runs import budget
from kaggle_manager.runs.budget import NotWorthIt, QuotaView, SessionPlan, TooShort
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Observation, SessionView, Stage
from kaggle_manager.runs.retry_policy import FailureKind, ends_the_run
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.runs.session_image import moved_after
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.inputs import current_versions
from kaggle_manager.sessions.launch import version_of
from kaggle_manager.sessions.metrics import past_sessions
from kaggle_manager.sessions.week import own_quota, pool_of
from kaggle_manager.system.formatting import epoch, for_people, iso
from kaggle_manager.trees.compatibility import current_identity, digest_of_changes
from kaggle_manager.trees.recover import head_of

# Cause of a wait for the weekly quota that Kaggle has not asked for: a session is not worth what is left.
PLANNED_WAIT = "little quota"
QUOTA_AGAIN_S = 3600.0


@dataclass
class RunContext:
    """One opened run.

    Attributes:
        state: its rows, read when it was opened.
        earlier_generation: the session number its lineage had reached before this journal knew it.
        planned: how the next session would be launched. week: what is left of the platform's quota for it. allowed: the
            same, or less where the user allows less. `observe` makes them new whenever a push is possible.
        beside: the session of other runs that its next one is planned to share; None for one of its own.
    """

    config: RunConfig
    connection: Connection
    state: RunState
    reporter: Reporter
    clock: Callable[[], float]
    earlier_generation: int
    planned: SessionPlan | None = field(default=None, init=False)
    week: QuotaView | None = field(default=None, init=False)
    allowed: QuotaView | None = field(default=None, init=False)
    beside: SessionRow | None = field(default=None, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    @classmethod
    def open(
        cls,
        config: RunConfig,
        connection: Connection,
        journal: Journal,
        reporter: Reporter,
        clock: Callable[[], float],
        check_before: Callable[[RunConfig, Reporter], None],
    ) -> RunContext:
        opened = open_run(config, connection, journal, reporter, iso(clock()), check_before)
        config = replace(config, target=opened.row.target)  # more may be done than was asked for
        return cls(config, connection, RunState(journal, opened.row), reporter, clock, opened.earlier_generation)

    @property
    def row(self) -> RunRow:
        return self.state.row

    @property
    def sessions(self) -> list[SessionRow]:
        """The newest of its sessions, see `RunState`."""
        return self.state.sessions

    @cached_property
    def tree(self) -> TrainingTree:
        return TrainingTree(self.config.tree, self.config.scenario_name)

    @cached_property
    def store(self) -> CheckpointStore:
        return CheckpointStore(self.tree, warn=self.reporter.warn)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What this run trains, as far as text can tell; read anew, for the user may edit a source meanwhile."""
        return current_identity(self.config)

    @property
    def changes_are_accepted(self) -> bool:
        """Whether the user has accepted the environment and the reward as they are now, in this command or before."""
        return self.row.settings.get("accepted") == digest_of_changes(self.identity)

    @property
    def accepted_files(self) -> Mapping[str, str]:
        """Digests of the files of inputs that the user has accepted with it, by the input's name."""
        return self.row.settings.get("accepted_files") or {}

    @property
    def accepted_inputs(self) -> Mapping[str, int]:
        """Versions of inputs that were current when the user accepted changes, by the input's name."""
        return self.row.settings.get("accepted_inputs") or {}

    @property
    def pool(self) -> str:
        """Whose room and quota its sessions take."""
        return pool_of(self.config, self.row.platform, self.row.owner)

    @property
    def session_limit_s(self) -> float:
        return self.connection.session_limit_s(self.config)

    def head(self) -> Checkpoint | None:
        """The checkpoint the next session continues; None when nothing was ever saved.

        Raises:
            CheckpointCorrupt: something was saved, and nothing of it can be used.
        """
        saved = max(self.state.totals.step, self.state.totals.min_step)
        return head_of(self.store, self.config, saved_step=saved)

    @property
    def is_between_sessions(self) -> bool:
        """Whether no session is on its way or still to be restored."""
        return self.state.newest is None or self.state.newest.stage is Stage.CLOSED

    def newest_session(self) -> SessionRow:
        newest = self.state.newest
        assert newest is not None, "only called once a session was pushed"
        return newest

    def version_of(self, session: SessionRow) -> SessionRef:
        return version_of(self.row, session)

    def was_unanswered(self, generation: int) -> bool:
        """Whether a push of this session number was neither answered nor found."""
        return self.state.journal.has_event(self.row.run_id, "push_not_accepted", generation)

    def folder_of(self, session: SessionRow) -> Path:
        """Where the outputs of `session` are downloaded."""
        return self.config.downloads / self.row.run_id / f"generation_{session.generation}"

    def replaced_by(self, session: SessionRow) -> Path:
        """Where the tree that `session` replaced is kept."""
        return self.config.replaced / self.row.run_id / f"before_generation_{session.generation}"

    def now(self) -> str:
        return iso(self.clock())

    def warn_once(self, text: str) -> None:
        """A warning that holds as long as nothing changes: the passes of a command give it once."""
        if text not in self._warned:
            self._warned.add(text)
            self.reporter.warn(text)

    def note(self, kind: str, generation: int | None = None, **detail: Any) -> None:
        self.state.note(kind, generation, self.now(), **detail)

    def keep_settings(self) -> None:
        """Remember what a later tick needs to go on as this command would; the target is the run's own by now."""
        self.state.change_settings(**limits_of(self.config), seed=self.config.seed)

    def go_on(self) -> None:
        """The user runs it again: what stopped it before counts no more."""
        self.state.change_settings(**settings_of(self.config), stopped=None)
        closed = (session.generation for session in self.sessions if session.stage is Stage.CLOSED)
        self.note("continued", max(closed, default=0))  # how the one that runs will end nobody has seen yet

    def accept_changes(self) -> None:
        """Remember that the user accepts this environment, this reward and these inputs, and no later ones.

        Only a session sees the files of its inputs: those are accepted that one has refused, and told of; where
        sessions run on this machine, those that a push was refused for.

        Raises:
            AuthError, RemoteError: the platform does not say which versions of its inputs are current.
        """
        asked = self.config.section.inputs_of(self.config.scenario_name)
        versions = {**self.accepted_inputs, **current_versions(self.connection.client, asked)}
        told = [session.facts["input_files"] for session in self.sessions if session.facts.get("input_files")]
        files = {**self.accepted_files, **(told[-1] if told else {}), **(self.row.settings.get("told_files") or {})}
        self.state.change_settings(
            accepted=digest_of_changes(self.identity), accepted_files=files, accepted_inputs=versions
        )

    def leave_image(self) -> None:
        """The next session takes the newest docker image: those until now no longer say which one it asks for."""
        self.state.change_settings(**moved_after(self.state.newest.generation if self.state.newest else 0))

    # --- waiting ------------------------------------------------------------------------------------------------------

    def postpone(self, cause: str, why: str, first_s: float, longest_s: float) -> None:
        """Write down that nothing is tried for a while; each wait for the same cause in a row is twice as long."""
        tries = self.row.wait.tries.get(cause, 0) if self.row.wait else 0
        self.wait_until(cause, why, self.clock() + min(longest_s, first_s * 2.0 ** min(tries, 30)))
        self.reporter.line(f"  {why} The next try, which costs no attempt, is at {for_people(self.waits_until)}")

    def wait_until(self, cause: str, why: str, until: float) -> None:
        self.note("waits", cause=cause, why=why, since=self.clock(), until=until)

    def replan_at(self, reset: float | None) -> float:
        """When to look at the quota again: at its reset, and each hour, for what other sessions reserve comes back."""
        again = self.clock() + QUOTA_AGAIN_S
        return again if reset is None or reset <= self.clock() else min(reset, again)

    @property
    def waits_until(self) -> float:
        """When the newest wait ends, seconds since the epoch; it may be over. 0 without one."""
        return self.row.wait.until if self.row.wait else 0.0

    def waits_for_quota(self) -> bool:
        """Whether what is waited for is the weekly quota."""
        return self.row.wait is not None and self.row.wait.cause in ("quota", PLANNED_WAIT)

    # --- what is known ------------------------------------------------------------------------------------------------

    def quota(self) -> QuotaView | None:
        """What is left of the week; None when this run uses no accelerator, or the platform cannot say now."""
        try:
            quota = self.connection.quota_for(self.config)
            self.reporter.quota("" if quota is None else f"{quota.left_s / 3600:.1f} h of quota left")
            return quota
        except RemoteError as error:
            self.reporter.warn(f"the quota could not be read, and is taken to be enough: {error.message}")
            return None

    def _own_quota(self, beside: SessionRow | None) -> QuotaView | None:
        return own_quota(self.config, self.state.journal, self.pool, self.week, self.clock(), beside=beside)

    def own_quota_allows(self, seconds: float, beside: SessionRow | None) -> bool:
        """Whether what the user allows a week has room for a session of this length, as the journal is now."""
        left = self._own_quota(beside)
        return left is None or seconds <= left.left_s + 1.0  # sums in another order are not equal to the last bit

    @property
    def plan(self) -> SessionPlan:
        assert self.planned is not None, "a push is only decided after `observe` has planned it"
        return self.planned

    def observe(self) -> Observation:
        """What `lifecycle.decide` looks at; a week without quota is written down, for ticks and `status` to say.

        Raises:
            ConfigError: no session so short could save anything.
        """
        self.state.refresh()
        now, wait = self.clock(), self.row.wait
        # A wait that was only planned ends when the quota is there again: it may come back before its reset.
        is_held_up = wait is not None and wait.cause != PLANNED_WAIT and wait.is_on(now)
        not_before, why = (wait.until, wait.why) if wait is not None and is_held_up else (0.0, "")
        step, judged, early = 0, False, ""
        if self.is_between_sessions:  # else nothing depends on the tree, which is read in full
            head, final = self.head(), self.store.final()
            step = head.step if head else 0
            judged = (final is not None and final.step >= step) or self.store.best() is not None
            early = stop_early.why(self.state, self.config)
            if not early and (planned := self._plan_next(step, judged)):
                not_before, why = max((not_before, why), planned)
        return Observation(
            target=self.config.target,
            step=step,
            judged=judged,
            earlier_generation=self.earlier_generation,
            sessions=tuple(_view(session, self.row.seen_to) for session in self.sessions),
            now=now,
            not_before=not_before,
            why_wait=why,
            stopped=self.row.stop_asked,
            rehearsal=self.config.quick,
            early=early,
        )

    def _plan_next(self, step: int, judged: bool) -> tuple[float, str] | None:
        """Plan the next session from here; until when to wait and why, when it is not worth the quota that is left."""
        remaining = max(0, self.config.target - step)
        done = not remaining and judged
        self.week = None if done else self.quota()
        self.allowed = None if done else budget.tighter(self.week, self._own_quota(self.beside))
        plan = budget.plan_session(
            remaining,
            min(self.session_limit_s, stop_early.left_s(self.state, self.config)),
            pace=budget.measure(past_sessions(self.sessions)),
            quota=self.allowed,
            now=self.clock(),
            rollout=self.config.scenario.rollout,
        )
        if isinstance(plan, TooShort):
            raise ConfigError(
                f"{plan.why[0].upper()}{plan.why[1:]}.", safe="nothing was pushed", next_step=plan.what_to_do
            )
        if isinstance(plan, NotWorthIt):
            until = self.replan_at(plan.until)
            reset = f" on {for_people(plan.until)}, or for sessions that end before" * (plan.until > until)
            why = plan.why + reset
            if self.row.wait is None or not self.row.wait.is_on(self.clock()):
                self.wait_until(PLANNED_WAIT, why, until)
            return until, why
        self.planned = plan
        return None


def _view(session: SessionRow, seen_to: int) -> SessionView:
    """A failure that the user has answered by running it again counts no more, unless it ends the run."""
    counts = session.generation > seen_to or ends_the_run(session.kind)
    failure = session.fingerprint if counts else ""
    kind = FailureKind(session.kind) if failure else FailureKind.NONE
    ended = epoch(session.ended_at) if session.ended_at else None
    return SessionView(session.generation, session.stage, failure, kind, ended, session.why)
