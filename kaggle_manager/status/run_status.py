"""Where the runs of a state folder stand, from the journal and the training trees alone: works offline.

Says always the state, why, what comes next, and whether the user has to act. Changes nothing. Of checkpoints it trusts
manifests and sizes; `checkpoints verify` reads every byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Manifest, TrainingTree
from kaggle_manager.checkpoints.tree_lock import at_work_on
from kaggle_manager.config import AUTOMATIC, workdir_of
from kaggle_manager.errors import StorageError
from kaggle_manager.platforms.platform import SessionState
from kaggle_manager.protocol.sentences import exactness
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sections.project import find_project_or_none, gone_section, has_report
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.status.report import RunReport, SessionSummary
from kaggle_manager.system.command_line import WhichTree, command
from kaggle_manager.system.formatting import duration, epoch, for_people, iso
from kaggle_manager.trees.inspect import CheckpointView, best_of, look_at

# States after which nothing continues by itself, so that no time is known when the target is reached.
ENDS = ("finished", "stopped", "failed", "abandoned")


@dataclass(frozen=True)
class _State:
    name: str
    why: str
    next: str = ""
    human: bool = False
    until: float | None = None


def which_tree(row: RunRow, state: Path) -> WhichTree:
    """The training tree of a run, for the commands that are about it; `state` is the folder of its journal."""
    return WhichTree(row.section, row.scenario, row.settings.get("seed"), row.quick, workdir_of(state))


class _Here:
    """What is alike for every run of a journal, looked for once."""

    def __init__(self, journal: Journal) -> None:
        self.newest_runs = journal.newest_runs()
        self.gone_section = cache(partial(gone_section, journal.path.parent))
        self.has_report = cache(partial(_has_report, journal.path.parent))


def _has_report(state: Path, section: str) -> bool:
    project = state.parent if workdir_of(state) is None else find_project_or_none(Path.cwd())
    return project is not None and has_report(project, section)


def _after_the_end(row: RunRow, which: WhichTree, here: _Here) -> str:
    """A rehearsal is followed by the real thing; a training by its report, or a look at what it left."""
    if row.quick:
        elsewhere = [] if row.platform in AUTOMATIC else ["--platform", row.platform]  # else it is chosen
        return replace(which, quick=False).command("run", *elsewhere)
    if here.has_report(row.section):
        return which.command("report")
    return which.command("checkpoints ls")


def describe_run(run: RunState, now: float) -> RunReport:
    """One run as it stands at `now`, in seconds since the epoch."""
    return _described(run, now, _Here(run.journal))


def describe_all(journal: Journal, now: float) -> list[RunReport]:
    """Every run of a journal, newest first."""
    here = _Here(journal)
    return [_described(RunState(journal, row), now, here) for row in reversed(journal.runs())]


def _described(run: RunState, now: float, here: _Here) -> RunReport:
    row, journal = run.row, run.journal
    sessions = tuple(SessionSummary(**summary) for summary in journal.session_summaries(row.run_id))
    try:
        there, obstacle = look_at(TrainingTree(Path(row.tree), row.scenario), verify=False), None
    except StorageError as error:  # the other runs are shown all the same
        there, obstacle = [], error
    # As their manifests say: no file is read and nothing is repaired, for a session may be restored at this moment.
    views = [view for view in there if view.manifest and view.manifest.lineage.run_id == row.run_id]
    head = _first(views, "latest")
    best = best_of(views, head)
    # A tree that is being replaced at this very moment, or is another run's by now, shows no checkpoint of this one.
    step = head.step if head else run.totals.step
    damage = next((view.problem for view in views if view.problem), "")
    which = which_tree(row, journal.path.parent)
    state = _state(run, step, now, which, damage, here)
    if row.finished_at is None and (gone := here.gone_section(row.section)):
        todo = f"bring that back, or give the run up: {command('clean', '--yes')}"
        state = _State("error", f"its section is gone: {gone}", todo, human=True)
    if obstacle is not None:
        state = _State("error", obstacle.message, obstacle.next_step, human=True)
    is_newest = row.run_id in here.newest_runs
    if state.name == "finished" and not damage and is_newest:
        state = _undone(run, there, views, which) or state
    newest = run.newest
    worker = at_work_on(Path(row.tree)) if is_newest else ""
    return RunReport(
        state=state.name,
        why=state.why + (f"; a command works on it: {worker}" if worker else ""),
        next=which.command("logs", "--follow") if worker else state.next,
        human_action_required=state.human,
        waiting_until=None if state.until is None else iso(state.until),
        run_id=row.run_id,
        section=row.section,
        scenario=row.scenario,
        platform=row.platform,
        quick=row.quick,
        step=step,
        target=row.target,
        tree=row.tree,
        bundle_sha256=newest.bundle_sha256 if newest else "",
        image=next((session.image for session in reversed(sessions) if session.image), ""),
        exactness=exactness(head.exact) if head else "",
        best_score=best.told_score if best else None,
        best_step=best.step if best else None,
        progress=dict(newest.facts.get("seen") or {}) if newest and newest.stage is Stage.PUSHED else {},
        forecast=_forecast(row, now) if state.name not in ENDS and not row.stop_asked else {},
        accelerator_s=sum(session.ran_s or 0.0 for session in sessions),
        lost_s=sum(session.lost_s or 0.0 for session in sessions),
        counts=dict(row.counts),
        sessions=sessions,
        seed=which.seed,
        unit=row.unit,
        in_line=state.name in ("waiting", "ready") and row.place is not None and row.place.is_kept(now),
    )


def _first(views: Iterable[CheckpointView], level: str) -> Manifest | None:
    return next((view.manifest for view in views if view.level == level), None)


def _state(run: RunState, step: int, now: float, which: WhichTree, damage: str, here: _Here) -> _State:
    row, newest, wait = run.row, run.newest, run.row.wait
    again = which.command("run")
    onward = which.command("tick") if row.stop_asked else again  # `run` takes a stop back
    if row.outcome == "finished" and damage:  # no session follows that would notice
        why = f"{run.what_is_done}, and what was saved is damaged since: {damage}"
        return _State("finished", why, which.command("checkpoints verify"), human=True)
    if row.outcome == "finished" and row.quick and (trouble := _trouble(row, again)) and trouble.human:
        return trouble  # it reached its target, and did not show what it is for
    if row.outcome == "finished":
        return _State("finished", run.what_is_done, _after_the_end(row, which, here))
    if row.finished_at is not None:
        return _State("abandoned", row.outcome)
    if row.stop_asked and (newest is None or newest.stage is Stage.CLOSED):
        return _State("stopped", "it was asked to stop", again, human=True)
    if row.stop_asked and newest is not None and newest.stage is Stage.ENDED:
        held_up = f": {row.trouble.message}" if row.trouble is not None else ""
        why = f"it was asked to stop, and session {newest.generation} has ended; what it left is not restored yet"
        return _State("stopped", why + held_up, onward, human=row.trouble is not None and not row.trouble.retryable)
    waits = wait is not None and wait.is_on(now)
    # What time alone may help is a wait, once it is known until when.
    if (trouble := _trouble(row, again)) and (trouble.human or not waits):
        return trouble
    if newest is not None and newest.stage in (Stage.INTENDED, Stage.PUSHED):
        stopping = "; it was asked to stop, and no session follows" * row.stop_asked
        name = "queued" if progress_of(newest).state == SessionState.QUEUED.name else "running"
        return _State(name, _running(newest, now) + stopping, onward)
    if wait is not None and waits:
        why = f"{wait.why} (until {for_people(wait.until)})"
        return _State("waiting", why, onward, until=wait.until)
    if newest is not None and newest.stage is Stage.ENDED:
        why = f"session {newest.generation} has ended; what it left is restored next"
        return _State("downloading", why, onward)
    after = f"session {newest.generation} {newest.why}; " if newest else ""
    return _State("ready", f"{after}{max(0, row.target - step)} {row.unit} remain", onward)


def _undone(
    run: RunState, there: Sequence[CheckpointView], own: Sequence[CheckpointView], which: WhichTree
) -> _State | None:
    """What a finished run is whose tree holds less than its target: an older copy was put there, or nothing is left."""
    row, done = run.row, run.finished_at_step
    if not there:
        why = f"{done} {row.unit} were done, and the tree {row.tree} holds no checkpoint any more"
        return _State("error", why, which.command("run"), human=True)
    head, final = _first(own, "latest"), _first(own, "final")
    if not own or (head and final and min(head.step, final.step) >= done):
        return None
    step = head.step if head else 0
    return _State("ready", f"{done} {row.unit} were done; the tree is at step {step} again", which.command("run"))


def _trouble(row: RunRow, again: str) -> _State | None:
    """What ended the last command or stopped the run, unless something went on since."""
    if row.trouble is None:
        return None
    name, todo = "failed" if row.trouble.is_stop else "error", row.trouble.next_step or again
    if "same command" in todo:  # here nobody sees which that was
        todo += f" (the command: {again})"
    return _State(name, row.trouble.message, todo, human=not row.trouble.retryable)


def _running(session: SessionRow, now: float) -> str:
    seen = progress_of(session)
    since = f"session {session.generation} was launched {_ago(epoch(session.started_at), now)}"
    if session.stage is Stage.INTENDED:
        return f"{since}; whether the platform took it is looked up next"
    if seen.state == SessionState.QUEUED.name:
        return f"{since}; it waits in the queue" + (f": {seen.why_queued}" if seen.why_queued else "")
    if seen.last_line_at is None:
        return f"{since}; nothing was read in its log yet"
    heard = f"last heard of {_ago(seen.last_line_at, now)}"
    if seen.wedged:
        return f"{since}; it is silent, {heard}, and may be wedged"
    speed = f" at {seen.steps_per_s:.3g} steps/s" if seen.steps_per_s else ""
    return f"{since}; " + (f"step {seen.step}{speed}, " if seen.step is not None else "") + heard


def _ago(moment: float, now: float) -> str:
    return f"{duration(max(0.0, now - moment))} ago"


def _forecast(row: RunRow, now: float) -> dict[str, Any]:
    """What is still to come; a date that has passed is not."""
    if not row.forecast or epoch(row.forecast["done_at"]) <= now:
        return {}
    return {name: row.forecast[name] for name in ("done_at", "sessions", "accelerator_s") if name in row.forecast}
