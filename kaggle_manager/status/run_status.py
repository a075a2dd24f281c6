"""Where the runs of a state folder stand, from the journal and the training trees alone: asks no platform.

Says always the state, why, what comes next, and whether a person is needed. Changes nothing. Of checkpoints it believes
manifests and sizes; `checkpoints verify` reads every byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Manifest, TrainingTree
from kaggle_manager.config import STATE_FOLDER, elsewhere
from kaggle_manager.console.formatting import duration, epoch, for_people, iso
from kaggle_manager.errors import KaggleManagerError, QuotaError, RemoteError
from kaggle_manager.runs.journal import Journal, RunRow, SessionRow
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import newest_wait
from kaggle_manager.sections.project import find_project_or_none, has_report
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.status.report import RunReport, SessionSummary
from kaggle_manager.trees.inspect import CheckpointView, look_at

# Errors that time alone may mend.
_PASSING: tuple[type[KaggleManagerError], ...] = (RemoteError, QuotaError, *RemoteError.__subclasses__())
PASSING = {kind.__name__ for kind in _PASSING}
# Events that outdate an error or a stop noted before them.
GOING_ON = ("continued", "pushed", "adopted", "ended", "fetched", "closed", "finished", "mended")


@dataclass(frozen=True)
class _State:
    name: str
    why: str
    next: str = ""
    human: bool = False
    until: float | None = None


@dataclass(frozen=True)
class _Commands:
    """The commands that are about one run, with the options that make them so."""

    row: RunRow
    state: Path

    def of(self, name: str, *, workdir_only: bool = False) -> str:
        row = self.row
        seed = f" --seed {row.settings['seed']}" if row.settings.get("seed") is not None else ""
        options = "" if workdir_only else f" --scenario {row.scenario}{seed}{' --quick' * row.quick}"
        return f"kaggle-manager {name} {row.section}{options}{elsewhere(self.state)}"

    def after_the_end(self) -> str:
        """A rehearsal is followed by the real thing; a training by its report, or a look at what it left."""
        if self.row.quick:
            return f"kaggle-manager run {self.row.section} --scenario {self.row.scenario}{elsewhere(self.state)}"
        project = self.state.parent if self.state.name == STATE_FOLDER else find_project_or_none(Path.cwd())
        if project is not None and has_report(project, self.row.section):
            return self.of("report", workdir_only=True) + f" --scenario {self.row.scenario}"
        return self.checkpoints("ls")

    def checkpoints(self, name: str) -> str:
        which = f"--section {self.row.section} --scenario {self.row.scenario}{' --quick' * self.row.quick}"
        return f"kaggle-manager checkpoints {name} {which}{elsewhere(self.state)}"


def describe_run(journal: Journal, row: RunRow, now: float) -> RunReport:
    """One run as it stands at `now`, in seconds since the epoch."""
    sessions, events = journal.sessions(row.run_id), journal.events(row.run_id)
    there = look_at(TrainingTree(Path(row.tree), row.scenario), verify=False)
    # As their manifests say: no file is read and nothing is mended, for a session may be restored at this very moment.
    views = [view for view in there if view.manifest and view.manifest.lineage.run_id == row.run_id]
    head, best = (_first(views, level) for level in ("latest", "best"))
    # A tree that is being replaced at this very moment, or is another run's by now, shows no checkpoint of this one.
    step = head.step if head else max((session.step or 0 for session in sessions), default=0)
    damage = next((view.problem for view in views if view.problem), "")
    commands = _Commands(row, journal.path.parent)
    state = _state(row, sessions, events, step, now, commands, damage)
    newest_of_tree = journal.newest_run(Path(row.tree))
    if state.name == "finished" and not damage and newest_of_tree and newest_of_tree.run_id == row.run_id:
        state = _undone(row, there, views, commands) or state
    newest = sessions[-1] if sessions else None
    return RunReport(
        state=state.name,
        why=state.why,
        next=state.next,
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
        best_score=best.score if best else None,
        best_step=best.step if best else None,
        progress=dict(newest.facts.get("seen") or {}) if newest and newest.stage is Stage.PUSHED else {},
        forecast=_forecast(events) if state.name != "finished" else {},
        accelerator_s=sum(session.facts.get("ran_s", 0.0) for session in sessions),
        lost_s=sum(session.facts.get("lost_s", 0.0) for session in sessions),
        counts=_counts(events),
        sessions=tuple(_summary(session) for session in sessions),
    )


def describe_all(journal: Journal, now: float) -> list[RunReport]:
    """Every run of a journal, newest first."""
    return [describe_run(journal, row, now) for row in reversed(journal.runs())]


def _first(views: Iterable[CheckpointView], level: str) -> Manifest | None:
    return next((view.manifest for view in views if view.level == level), None)


def _state(
    row: RunRow,
    sessions: Sequence[SessionRow],
    events: Sequence[Mapping[str, Any]],
    step: int,
    now: float,
    commands: _Commands,
    damage: str,
) -> _State:
    again, tick = commands.of("run"), commands.of("tick")
    if row.outcome == "finished" and damage:  # no session follows that would notice
        why = f"{row.target} timesteps are done, and what was saved is damaged since: {damage}"
        return _State("finished", why, commands.checkpoints("verify"), human=True)
    if row.outcome == "finished":
        return _State("finished", f"{row.target} timesteps are done", commands.after_the_end())
    if row.finished_at is not None:
        return _State("abandoned", row.outcome)
    newest = sessions[-1] if sessions else None
    if row.settings.get("stopped") and (newest is None or newest.stage is Stage.CLOSED):
        return _State("stopped", "it was asked to stop", again, human=True)
    wait = newest_wait(events)
    waits = wait is not None and wait["until"] > now
    # What time alone mends is a wait, once it is known until when.
    if (trouble := _trouble(events, again)) and (trouble.human or not waits):
        return trouble
    if newest is not None and newest.stage in (Stage.INTENDED, Stage.PUSHED):
        stopping = "; it was asked to stop, and no session follows" * bool(row.settings.get("stopped"))
        return _State("running", _running(newest, now) + stopping, tick)
    if wait is not None and waits:
        why = f"{wait['why']} (until {for_people(wait['until'])})"
        return _State("waiting", why, tick, until=wait["until"])
    if newest is not None and newest.stage in (Stage.ENDED, Stage.FETCHED):
        why = f"generation {newest.generation} has ended; what it left is restored next"
        return _State("fetching", why, tick)
    after = f"generation {newest.generation} {newest.why}; " if newest else ""
    return _State("ready", f"{after}{max(0, row.target - step)} timesteps remain", tick)


def _undone(
    row: RunRow, there: Sequence[CheckpointView], own: Sequence[CheckpointView], commands: _Commands
) -> _State | None:
    """What a finished run is whose tree holds less than its target: an older copy was put there, or nothing is left."""
    if not there:
        why = f"{row.target} timesteps were done, and the tree {row.tree} holds no checkpoint any more"
        return _State("error", why, commands.of("run"), human=True)
    head, final = _first(own, "latest"), _first(own, "final")
    if not own or (head and final and min(head.step, final.step) >= row.target):
        return None
    step = head.step if head else 0
    return _State("ready", f"{row.target} timesteps were done; the tree is at step {step} again", commands.of("tick"))


def in_trouble(events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what was noted last is an error that nothing has outdated."""
    found = next((event["kind"] for event in reversed(events) if event["kind"] in (*GOING_ON, "stopped", "error")), "")
    return found == "error"


def _trouble(events: Sequence[Mapping[str, Any]], again: str) -> _State | None:
    """What stopped the last command, unless something went on since. What needs a person outlives what passes."""
    passing: _State | None = None
    for event in reversed(events):
        if event["kind"] in GOING_ON:
            break
        if event["kind"] == "stopped":
            return _State("failed", event["detail"]["why"], again, human=True)
        if event["kind"] == "error":
            detail = event["detail"]
            state = _State("error", detail["message"], detail["next"] or again, human=detail["type"] not in PASSING)
            if state.human:
                return state
            passing = passing or state
    return passing


def _running(session: SessionRow, now: float) -> str:
    seen = progress_of(session)
    since = f"generation {session.generation} was launched {_ago(epoch(session.started_at), now)}"
    if session.stage is Stage.INTENDED:
        return f"{since}; whether Kaggle took it is looked up next"
    if seen.last_line_at is None:
        return f"{since}; nothing was read in its log yet"
    heard = f"last heard of {_ago(seen.last_line_at, now)}"
    if seen.wedged:
        return f"{since}; it is silent, {heard}, and may be wedged"
    speed = f" at {seen.steps_per_s:.3g} steps/s" if seen.steps_per_s else ""
    return f"{since}; " + (f"step {seen.step}{speed}, " if seen.step is not None else "") + heard


def _ago(moment: float, now: float) -> str:
    return f"{duration(max(0.0, now - moment))} ago"


def _forecast(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found = [event["detail"] for event in events if event["kind"] == "forecast"]
    return dict(found[-1]) if found else {}


def _counts(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for event in events:
        if event["kind"] == "closed":
            total.update(event["detail"].get("counts", {}))
    return dict(total)


def _summary(session: SessionRow) -> SessionSummary:
    return SessionSummary(
        generation=session.generation,
        version=session.version,
        stage=session.stage,
        outcome=session.outcome,
        kind=session.kind,
        step=session.step,
        gained=session.facts.get("gained"),
        ran_s=session.facts.get("ran_s"),
        lost_s=session.facts.get("lost_s"),
        started_at=session.started_at,
        ended_at=session.ended_at,
        why=session.why,
    )
