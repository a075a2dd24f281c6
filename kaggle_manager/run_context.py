"""Everything one run is carried out with: its configuration, platform, journal row and local training tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.connection import Connection
from kaggle_manager.experiment import current_identity
from kaggle_manager.journal import Journal, RunRow, SessionRow
from kaggle_manager.kaggle_api.models import KernelVersion
from kaggle_manager.kept import head_of
from kaggle_manager.lifecycle import Observation, SessionView
from kaggle_manager.progress import Reporter
from kaggle_manager.report import RunReport, SessionSummary
from kaggle_manager.run_setup import now, open_run


@dataclass(frozen=True)
class RunContext:
    """One opened run. `earlier_generation` is what its lineage had reached before this journal knew it."""

    config: RunConfig
    connection: Connection
    journal: Journal
    reporter: Reporter
    row: RunRow
    earlier_generation: int

    @classmethod
    def open(cls, config: RunConfig, connection: Connection, journal: Journal, reporter: Reporter) -> RunContext:
        opened = open_run(config, connection, journal, reporter)
        return cls(config, connection, journal, reporter, opened.row, opened.earlier_generation)

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
        return head_of(self.store, self.config, saved_step=max((s.step or 0 for s in self.sessions()), default=0))

    def sessions(self) -> list[SessionRow]:
        return self.journal.sessions(self.row.run_id)

    def newest_session(self) -> SessionRow:
        return self.sessions()[-1]

    def version_of(self, session: SessionRow) -> KernelVersion:
        assert session.version is not None, "only called for sessions whose push was accepted"
        return KernelVersion(self.row.owner, self.row.slug, session.version)

    def folder_of(self, session: SessionRow) -> Path:
        """Where the outputs of `session` are downloaded."""
        return self.config.downloads / self.row.run_id / f"generation_{session.generation}"

    def replaced_by(self, session: SessionRow) -> Path:
        """Where the tree that `session` replaced is kept."""
        return self.config.replaced / self.row.run_id / f"before_generation_{session.generation}"

    def note(self, kind: str, generation: int | None = None, **detail: Any) -> None:
        self.journal.note(self.row.run_id, generation, kind, now(), **detail)

    def observe(self) -> Observation:
        """What `lifecycle.decide` looks at."""
        head, final = self.head(), self.store.final()
        # Failures that already stopped the run were put before a person, who has run it again since.
        stops = [event["generation"] for event in self.journal.events(self.row.run_id) if event["kind"] == "stopped"]
        seen = max((generation or 0 for generation in stops), default=0)
        return Observation(
            target=self.config.target,
            step=head.step if head else 0,
            final_step=final.step if final else None,
            earlier_generation=self.earlier_generation,
            sessions=tuple(
                SessionView(s.generation, s.stage, s.fingerprint if s.generation > seen else "")
                for s in self.sessions()
            ),
        )

    def counts(self) -> Counter[str]:
        """Counts reported by the run's sessions, summed."""
        total: Counter[str] = Counter()
        for event in self.journal.events(self.row.run_id):
            if event["kind"] == "closed":
                total.update(event["detail"].get("counts", {}))
        return total

    def report(self, state: str, why: str, next_command: str, *, human_action_required: bool) -> RunReport:
        """The run as it stands now."""
        head, best = self.store.find_latest_checkpoint(), self.store.best()
        sessions = self.sessions()
        return RunReport(
            state=state,
            why=why,
            next=next_command,
            human_action_required=human_action_required,
            run_id=self.row.run_id,
            section=self.row.section,
            scenario=self.row.scenario,
            platform=self.row.platform,
            quick=self.row.quick,
            step=head.step if head else 0,
            target=self.config.target,
            tree=str(self.config.tree),
            bundle_sha256=sessions[-1].bundle_sha256 if sessions else "",
            best_score=best.manifest.score if best else None,
            best_step=best.step if best else None,
            counts=dict(self.counts()),
            sessions=tuple(SessionSummary(s.generation, s.version, s.outcome, s.step, s.why) for s in sessions),
        )
