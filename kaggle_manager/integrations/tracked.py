"""What an experiment tracker is told of a run: its configuration, its curves and its sessions, as values.

Promises: made of the journal and the training tree alone, so it tells of sessions whose outputs were verified; a point
that was made once is made again as it was, however much came after it. Works offline, reads no model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kaggle_manager.checkpoints import Manifest, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import NotFound
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.status.report import RunReport, SessionSummary
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.trees.current_run import current_run
from kaggle_manager.trees.curves import read_episodes, read_metrics
from kaggle_manager.trees.evaluations import read_evaluations
from kaggle_manager.trees.inspect import newest_of_run

# As Stable-Baselines3 calls its own.
EVALUATIONS, EPISODES = "eval/mean_reward", "rollout/ep_rew_mean"
OF_SESSIONS = "session/"
"""How the names begin whose steps are numbers of sessions."""
# Of a script; a tracker with more curves than this is not looked at.
MOST_METRICS = 200
# Significant digits by which steps are told apart: about a thousand points for each power of ten.
_DIGITS = 3
# Digests of single files, which say nothing to a reader.
_LEFT_OUT = ("source_files",)


class Point(NamedTuple):
    """A value at a step, and when it was known here (ISO 8601): at the end of the session that brought it."""

    step: int
    value: float
    at: str


@dataclass(frozen=True)
class TrackedRun:
    """A run, as a tracker is told of it.

    Attributes:
        outcome: `running`, `finished`, `stopped` or `failed`.
        parameters: what it trains and how, by dotted names.
        facts: what is known of it now; each is replaced by a later one.
        series: its curves by name, each in the order of its steps.
        lineage: its sessions, as rows.
    """

    run_id: str
    name: str
    section: str
    scenario: str
    outcome: str
    started_at: str
    ended_at: str | None
    parameters: Mapping[str, str]
    facts: Mapping[str, str]
    series: Mapping[str, tuple[Point, ...]]
    lineage: tuple[Mapping[str, Any], ...]


def run_of(config: RunConfig, journal: Journal) -> RunRow:
    """The run whose training tree `config` names.

    Raises:
        NotFound: there is none.
        StorageError: the journal or the tree cannot be read.
    """
    row = current_run(config, journal)
    if row is None:
        raise NotFound(
            f"Nothing was trained of {config.name} yet.",
            next_step=f"start it: {config.command('run')}",
        )
    return row


def tracked_run(config: RunConfig, journal: Journal, now: float) -> TrackedRun:
    """The run whose training tree `config` names.

    Raises:
        NotFound: there is none.
        CheckpointCorrupt, OSError: a file of its curves cannot be read.
        StorageError: the journal or the tree cannot be read.
    """
    row = run_of(config, journal)
    report = describe_run(RunState(journal, row), now)
    tree = TrainingTree(config.tree, row.scenario)
    newest = newest_of_run(tree, row.run_id)
    series = _of_sessions(report.sessions)
    if newest is not None:
        series |= _of_tree(tree, newest.step, report, row.created_at)
    return TrackedRun(
        run_id=row.run_id,
        name=f"{row.section}/{report.name}",
        section=row.section,
        scenario=row.scenario,
        outcome=_outcome(report),
        started_at=row.created_at,
        ended_at=row.finished_at,
        parameters=dict(_flat(newest.identity)) if newest else {},
        facts=_facts(report, newest),
        series=series,
        lineage=tuple(lineage_of(journal, report)),
    )


def lineage_of(journal: Journal, report: RunReport) -> Iterator[Mapping[str, Any]]:
    """Each session of a run: what it continued, what it saved, where it ran and what it cost. No path is in it."""
    rows = {row.generation: row for row in journal.sessions(report.run_id)}
    for session in report.sessions:
        row = rows[session.generation]
        yield {
            "session": session.generation,
            "parent_manifest_sha256": row.parent_sha256,
            "code_sha256": row.bundle_sha256,
            "first_step": row.min_step,
            "last_step": session.step,
            "steps_gained": session.gained,
            "outcome": session.outcome,
            "failure": session.kind,
            "started_at": session.started_at,
            "ended_at": session.ended_at,
            "accelerator_s": session.ran_s,
            "lost_s": session.lost_s,
            "image": session.image,
            "versions": session.versions,
        }


def window_end(step: int) -> int:
    """The last step of the window that `step` is in: the next number of three digits and zeros."""
    width = int(10 ** max(0, len(str(step)) - _DIGITS))
    return -(-step // width) * width


def in_windows(points: Iterable[tuple[int, float]], until: int) -> list[tuple[int, float]]:
    """The mean of the points of each window, at its end, of the windows that end at or before `until`.

    A training has millions of episodes, and a tracker takes a few thousand points of them: where a window ends depends
    on nothing that comes later, so what was told once stays as it is.
    """
    found: dict[int, list[float]] = {}
    for step, value in points:
        found.setdefault(window_end(step), []).append(value)
    return [(end, math.fsum(values) / len(values)) for end, values in sorted(found.items()) if end <= until]


def _of_tree(tree: TrainingTree, step: int, report: RunReport, created_at: str) -> dict[str, tuple[Point, ...]]:
    until = window_end(step) if _outcome(report) == "finished" else step
    evaluations = read_evaluations(tree.history / "evaluations.npz")
    curves = {EVALUATIONS: [(point.step, point.mean) for point in evaluations if math.isfinite(point.mean)]}
    episodes, _ = read_episodes(tree.history / "monitor.csv")
    curves[EPISODES] = in_windows(episodes, until)
    for name, points in read_metrics(tree.history / "metrics.jsonl", MOST_METRICS).items():
        curves[name] = in_windows(points, until)
    ends = [(session.step, session.ended_at or session.started_at) for session in report.sessions if session.step]
    return {name: tuple(_dated(points, ends, created_at)) for name, points in curves.items() if points}


def _dated(points: Iterable[tuple[int, float]], ends: Sequence[tuple[int, str]], created_at: str) -> Iterator[Point]:
    """Each point with the end of the first session that had saved its step; the last one's beyond."""
    for step, value in points:
        yield Point(step, value, next((at for saved, at in ends if saved >= step), ends[-1][1] if ends else created_at))


def _of_sessions(sessions: Iterable[SessionSummary]) -> dict[str, tuple[Point, ...]]:
    found: dict[str, list[Point]] = {}
    for session in sessions:
        if session.stage != "closed":
            continue
        hours = {"hours": session.ran_s, "hours_lost": session.lost_s}
        values = {"steps_gained": session.gained, **{name: s / 3600 for name, s in hours.items() if s is not None}}
        for name, value in values.items():
            if value is not None:
                point = Point(session.generation, float(value), session.ended_at or session.started_at)
                found.setdefault(OF_SESSIONS + name, []).append(point)
    return {name: tuple(points) for name, points in found.items()}


def _outcome(report: RunReport) -> str:
    if report.state in ("finished", "stopped", "failed"):
        return report.state
    return "stopped" if report.state == "abandoned" else "running"


def _facts(report: RunReport, newest: Manifest | None) -> dict[str, str]:
    found = {
        "section": report.section,
        "scenario": report.scenario,
        "platform": report.platform,
        "target": report.target,
        "step": report.step,
        "sessions": len(report.sessions),
        "accelerator_hours": round(report.accelerator_s / 3600, 3),
        "lost_hours": round(report.lost_s / 3600, 3),
        "exactness": report.exactness or ("exact" if newest and newest.exact else None),
        "best_score": report.best_score,
        "best_step": report.best_step,
        "checkpoint_sha256": newest.sha256 if newest else None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Its values by dotted names; lists as JSON."""
    for key, value in table.items():
        if key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)
