"""Everything one run is carried out with: its configuration, platform, journal row, clock and local training tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.console.formatting import epoch, for_people, iso
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, RemoteError
from kaggle_manager.orchestrator.open_run import open_run, settings_of
from kaggle_manager.platforms.kaggle.models import KernelVersion
from kaggle_manager.runs import budget
from kaggle_manager.runs.budget import NotWorthIt, QuotaView, SessionPlan, TooShort
from kaggle_manager.runs.journal import Journal, RunRow, SessionRow
from kaggle_manager.runs.lifecycle import Observation, SessionView, Stage
from kaggle_manager.runs.retry_policy import FailureKind, in_a_row, newest_wait
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.metrics import past_sessions
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.recover import head_of

# Cause of a wait for the weekly quota that Kaggle has not asked for: a session is not worth what is left.
PLANNED_WAIT = "little quota"


@dataclass
class RunContext:
    """One opened run. `earlier_generation` is what its lineage had reached before this journal knew it.

    `planned` is how the next session would be launched, and `week` what is left of the quota for it; `observe` makes
    both new whenever a push is possible.
    """

    config: RunConfig
    connection: Connection
    journal: Journal
    reporter: Reporter
    clock: Callable[[], float]
    row: RunRow
    earlier_generation: int
    planned: SessionPlan | None = field(default=None, init=False)
    week: QuotaView | None = field(default=None, init=False)

    @classmethod
    def open(
        cls,
        config: RunConfig,
        connection: Connection,
        journal: Journal,
        reporter: Reporter,
        clock: Callable[[], float],
    ) -> RunContext:
        opened = open_run(config, connection, journal, reporter, iso(clock()))
        return cls(config, connection, journal, reporter, clock, opened.row, opened.earlier_generation)

    @cached_property
    def tree(self) -> TrainingTree:
        return TrainingTree(self.config.tree, self.config.scenario_name)

    @cached_property
    def store(self) -> CheckpointStore:
        return CheckpointStore(self.tree, warn=self.reporter.warn)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What this run trains, as far as text can tell."""
        return current_identity(self.config)

    def head(self) -> Checkpoint | None:
        """The checkpoint the next session continues; None when nothing was ever saved.

        Raises:
            CheckpointCorrupt: something was saved, and nothing of it can be used.
        """
        saved = max((max(s.step or 0, s.min_step) for s in self.sessions()), default=0)
        return head_of(self.store, self.config, saved_step=saved)

    def sessions(self) -> list[SessionRow]:
        return self.journal.sessions(self.row.run_id)

    def events(self) -> list[dict[str, Any]]:
        return self.journal.events(self.row.run_id)

    def newest_session(self) -> SessionRow:
        return self.sessions()[-1]

    def version_of(self, session: SessionRow) -> KernelVersion:
        assert session.version is not None, "only called for sessions whose push was accepted"
        return KernelVersion(self.row.owner, self.row.slug, session.version)

    def refusals(self, session: SessionRow) -> int:
        """How often what `session` left was refused."""
        return sum((e["kind"], e["generation"]) == ("refused", session.generation) for e in self.events())

    def was_unanswered(self, generation: int) -> bool:
        """Whether a push of this generation was neither answered nor found."""
        return any((e["kind"], e["generation"]) == ("push_not_accepted", generation) for e in self.events())

    def folder_of(self, session: SessionRow) -> Path:
        """Where the outputs of `session` are downloaded."""
        return self.config.downloads / self.row.run_id / f"generation_{session.generation}"

    def replaced_by(self, session: SessionRow) -> Path:
        """Where the tree that `session` replaced is kept."""
        return self.config.replaced / self.row.run_id / f"before_generation_{session.generation}"

    def now(self) -> str:
        return iso(self.clock())

    def note(self, kind: str, generation: int | None = None, **detail: Any) -> None:
        self.journal.note(self.row.run_id, generation, kind, self.now(), **detail)

    def keep_settings(self) -> None:
        """Remember what a later tick needs to go on as this command would; the target is the run's own by now."""
        self.journal.change_settings(
            self.row.run_id, session_limit_s=self.config.session_limit_s, seed=self.config.seed
        )

    def go_on(self) -> None:
        """A person asks for this run: what stopped it before counts no more."""
        self.journal.change_settings(self.row.run_id, **settings_of(self.config), stopped=None)
        self.note("continued", max((session.generation for session in self.sessions()), default=0))

    # --- waiting ------------------------------------------------------------------------------------------------------

    def postpone(self, cause: str, why: str, first_s: float, longest_s: float) -> None:
        """Write down that nothing is tried for a while; each wait for the same cause in a row is twice as long."""
        until = self.clock() + min(longest_s, first_s * 2.0 ** min(in_a_row(self.events(), cause), 30))
        self.note("waits", cause=cause, why=why, until=until)
        self.reporter.line(f"  {why} The next try, which costs no attempt, is at {for_people(until)}")

    def wait(self) -> Mapping[str, Any] | None:
        """The newest wait written down since the last push, or since a person asked to go on; it may be over."""
        return newest_wait(self.events())

    def waits_for_quota(self) -> bool:
        """Whether what is waited for is the weekly quota."""
        return (self.wait() or {}).get("cause") in ("quota", PLANNED_WAIT)

    def published(self) -> str | None:
        """Manifest of the tree that lies ready on the platform for the next session; None when a session took it."""
        for event in reversed(self.events()):
            if event["kind"] in ("pushed", "adopted"):
                return None
            if event["kind"] == "published":
                return str(event["detail"]["manifest_sha256"])
        return None

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

    @property
    def plan(self) -> SessionPlan:
        assert self.planned is not None, "a push is only decided after `observe` has planned it"
        return self.planned

    def observe(self) -> Observation:
        """What `lifecycle.decide` looks at; a week without quota is written down, for ticks and `status` to say.

        Raises:
            ConfigError: no session so short could save anything.
        """
        head, final = self.head(), self.store.final()
        sessions, events = self.sessions(), self.events()
        # Failures up to the last time a person asked to go on were put before them.
        seen = max((event["generation"] or 0 for event in events if event["kind"] == "continued"), default=0)
        waits = self.wait() or {"until": 0.0, "why": "", "cause": ""}
        # A wait that was only planned ends when the quota is there again: it may come back before its reset.
        planned_wait = waits["cause"] == PLANNED_WAIT
        not_before, why = (0.0, "") if planned_wait else (waits["until"], waits["why"])
        step = head.step if head else 0
        if not sessions or sessions[-1].stage is Stage.CLOSED:
            remaining = max(0, self.config.target - step)
            # Also when only the final model is missing: that takes a session as well.
            done = not remaining and final is not None and final.step >= self.config.target
            self.week = None if done else self.quota()
            plan = budget.plan_session(
                remaining,
                self.config.session_limit_s,
                pace=budget.measure(past_sessions(sessions)),
                quota=self.week,
                now=self.clock(),
                rollout=self.config.scenario.rollout,
            )
            if isinstance(plan, TooShort):
                raise ConfigError(
                    f"{plan.why[0].upper()}{plan.why[1:]}.", safe="nothing was pushed", next_step=plan.what_to_do
                )
            if isinstance(plan, NotWorthIt):
                if waits["until"] <= self.clock():
                    self.note("waits", cause=PLANNED_WAIT, why=plan.why, until=plan.until)
                not_before, why = max((not_before, why), (plan.until, plan.why))
            else:
                self.planned = plan
        return Observation(
            target=self.config.target,
            step=step,
            final_step=final.step if final else None,
            earlier_generation=self.earlier_generation,
            sessions=tuple(_view(session, seen) for session in sessions),
            now=self.clock(),
            not_before=not_before,
            why_wait=why,
            stopped=bool(self.journal.run(self.row.run_id).settings.get("stopped")),
            rehearsal=self.config.quick,
        )

    def counts(self) -> Counter[str]:
        """Counts reported by the run's sessions, summed."""
        total: Counter[str] = Counter()
        for event in self.events():
            if event["kind"] == "closed":
                total.update(event["detail"].get("counts", {}))
        return total


def _view(session: SessionRow, seen: int) -> SessionView:
    """A failure that a person has seen since counts no more."""
    failure = session.fingerprint if session.generation > seen else ""
    # A journal of an earlier version knows fingerprints only.
    kind = FailureKind(session.kind or FailureKind.CODE) if failure else FailureKind.NONE
    ended = epoch(session.ended_at) if session.ended_at else None
    return SessionView(session.generation, session.stage, failure, kind, ended)
