"""The runs of a state folder at a glance: one of them first, with what it needs; then all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.config import workdir_of
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.project import STATE_FOLDER, find_project_or_none, offered_sections
from kaggle_manager.status.report import REPORT_SCHEMA, RunReport
from kaggle_manager.status.run_status import describe_all
from kaggle_manager.system.command_line import WhichTree, command
from kaggle_manager.system.formatting import count, epoch, for_people
from kaggle_manager.trees.here import trees_here
from kaggle_manager.trees.inspect import newest_saved

# The most urgent first: what needs the user, then what continues, then what is over.
ORDER = ("failed", "error", "running", "queued", "downloading", "waiting", "ready", "stopped", "finished", "abandoned")
OVER = ORDER[-2:]


@dataclass(frozen=True)
class UnknownTree:
    """A training tree no run of the journal is about: restored from elsewhere, or the journal was lost.

    Attributes:
        is_vouched: whether a command continues with it without `--trust`.
    """

    root: Path
    step: int
    which: WhichTree
    is_vouched: bool


@dataclass(frozen=True)
class Overview:
    """Runs, the most urgent first, the newer before the older.

    Attributes:
        section: what was asked for, None for all.
        workdir: the option that brings a command here; None where it needs none.
        trees: training trees that are here although no run is known; looked for only then.
        left_out: how many runs that are here are not among `runs`: quick ones that are over, or all of them.
    """

    runs: tuple[RunReport, ...]
    section: str | None = None
    workdir: Path | None = None
    trees: tuple[UnknownTree, ...] = ()
    left_out: int = 0

    def only(self, *, scenario: str | None, seed: int | None, quick: bool) -> Overview:
        """Those that these options of other commands are about."""
        wanted = tuple(
            run
            for run in self.runs
            if scenario in (None, run.scenario) and seed in (None, run.seed) and (run.quick or not quick)
        )
        return replace(self, runs=wanted, left_out=0 if wanted else len(self.runs))

    def without_old_quick_runs(self) -> Overview:
        """Without the quick runs that are over and need nobody; where there is nothing else, the newest one stays."""
        kept = tuple(run for run in self.runs if not run.quick or run.state not in OVER or run.human_action_required)
        kept = kept or self.runs[:1]
        return replace(self, runs=kept, left_out=self.left_out + len(self.runs) - len(kept))

    def as_json(self) -> dict[str, Any]:
        """The most urgent run's fields on top (`state`, `why`, `next`, `human_action_required`, ...); all in `runs`."""
        first = asdict(self.runs[0]) if self.runs else self._nothing()
        runs = [asdict(run) for run in self.runs]
        return {"schema": REPORT_SCHEMA, **first, "runs": runs, "left_out": self.left_out}

    def _nothing(self) -> dict[str, Any]:
        if self.left_out:
            why = "no run here is what these options name"
            return {"state": "none", "why": why, "next": self._see_all, "human_action_required": False}
        if self.trees:
            found = self.trees[0]
            trust = [] if found.is_vouched else ["--trust"]
            goes_on = " ".join(["run", *trust])
            holds = f"{found.root} holds a training at step {found.step}"
            why = f"no run is known here, but {holds}; `{goes_on}` continues with it"
            again = found.which.command("run", *trust)
            return {"state": "none", "why": why, "next": again, "human_action_required": True}
        first = WhichTree(self.section or "SECTION", quick=True, workdir=self.workdir).command("run")
        return {"state": "none", "why": "nothing was ever run here", "next": first, "human_action_required": True}

    def lines(self) -> Iterator[str]:
        if not self.runs:
            nothing = self._nothing()
            yield f"{nothing['why']}; {'next' if self.trees or self.left_out else 'begin with'}: {nothing['next']}"
        for run in self.runs:
            yield f"{run.state.upper():<9} {run.name}  {run.step} of {run.target} {run.unit}"
            yield "  " + run.why.replace("\n", "\n  ")
            yield f"  run {run.run_id}"
            if run.best_score is not None:
                yield f"  best: {run.best_score:.4g} at step {run.best_step}"
            if run.exactness:
                yield f"  {run.exactness}"
            if run.forecast:
                yield f"  target expected: {for_people(epoch(run.forecast['done_at']))}"
            for session in run.sessions[-1:]:
                if session.caution:
                    yield f"  caution: session {session.generation} left {session.caution}"
            if run.next:
                yield f"  {'needs you' if run.human_action_required else 'next'}: {run.next}"
        if self.runs and self.left_out:
            are = "is" if self.left_out == 1 else "are"
            yield f"not shown: {count(self.left_out, 'quick run')} that {are} over; {self._see_all}"

    @property
    def _see_all(self) -> str:
        return command("status", *filter(None, [self.section]), "--all", workdir=self.workdir)


def overview(journal: Journal, section: str | None, now: float) -> Overview:
    """Every run of a journal, or those of one section."""
    runs = [run for run in describe_all(journal, now) if section in (None, run.section)]
    state = journal.path.parent
    trees = () if runs else tuple(_unknown_trees(state, section))
    return Overview(by_urgency(runs), section, workdir_of(state), trees)


def _unknown_trees(state: Path, section: str | None) -> Iterator[UnknownTree]:
    """Trees below the folder that `state` stands for, where the project's sections would have theirs."""
    is_own = state.name == STATE_FOLDER
    project = find_project_or_none(state.parent if is_own else Path.cwd(), section)
    if project is None:
        return
    for name in offered_sections(project):
        if section not in (None, name):
            continue
        for config in trees_here(project, name, None if is_own else state):
            newest = None if config.quick else newest_saved(TrainingTree(config.tree, config.scenario_name))
            if newest is not None:
                yield UnknownTree(config.tree, newest.step, config.which, bool(Vouched(state).who(newest)))


def by_urgency(runs: Iterable[RunReport]) -> tuple[RunReport, ...]:
    return tuple(sorted(runs, key=lambda run: ORDER.index(run.state)))
