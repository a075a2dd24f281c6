"""What the sessions of the runs here came to, their sums, and two runs beside each other. Works offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.runs.session_image import short
from kaggle_manager.status.report import REPORT_SCHEMA, RunReport, SessionSummary
from kaggle_manager.system.formatting import count, duration
from kaggle_manager.trees.compare import TreeDifference, compare_trees


@dataclass(frozen=True)
class History:
    """All runs of a state folder, newest first, and what they used together (seconds)."""

    runs: tuple[RunReport, ...]

    @property
    def totals(self) -> dict[str, Any]:
        sessions = [session for run in self.runs for session in run.sessions]
        return {
            "runs": len(self.runs),
            "sessions": len(sessions),
            "failed_sessions": sum(bool(session.kind) for session in sessions),
            "gained": sum(session.gained or 0 for session in sessions),
            "accelerator_s": sum(run.accelerator_s for run in self.runs),
            "lost_s": sum(run.lost_s for run in self.runs),
        }

    def as_json(self) -> dict[str, Any]:
        return {"schema": REPORT_SCHEMA, "totals": self.totals, "runs": [asdict(run) for run in self.runs]}

    def lines(self) -> Iterator[str]:
        """One line a session, a line above each run, and the sums; of what a session ran on, what is new."""
        for run in self.runs:
            yield f"run {run.run_id}  {run.name}  {run.step} of {run.target}  {run.state}"
            if run.exactness:
                yield f"  {run.exactness}"
            before: dict[str, str] = {}
            for session in run.sessions:
                cost = f", {duration(session.ran_s)}" if session.ran_s else ""
                lost = f", {duration(session.lost_s)} lost" if session.lost_s else ""
                kind = f" [{session.kind}]" if session.kind else ""
                yield f"  session {session.generation}{cost}{lost}: {session.why or session.stage}{kind}"
                ran_on = _ran_on(session)
                if new := [f"{name} {value}" for name, value in ran_on.items() if before.get(name) != value]:
                    yield f"    {', '.join(new)}"
                before |= ran_on
                if session.caution:
                    yield f"    caution: {session.caution}"
        yield self._sum()

    def _sum(self) -> str:
        totals = self.totals
        return (
            f"{count(totals['sessions'], 'session')} of {count(totals['runs'], 'run')}, "
            f"{totals['failed_sessions']} of them failed: "
            f"{duration(totals['accelerator_s'])} in all, {count(totals['gained'], 'step')} gained, "
            f"{duration(totals['lost_s'])} lost to repeated work"
        )


def _ran_on(session: SessionSummary) -> dict[str, str]:
    """What is known of a session's image and versions."""
    said = {"image": short(session.image), **session.versions}
    names = {
        "image": "image",
        "python": "Python",
        "torch": "torch",
        "numpy": "NumPy",
        "cuda": "CUDA",
        "driver": "driver",
    }
    return {shown: said[name] for name, shown in names.items() if said.get(name)}


@dataclass(frozen=True)
class Comparison:
    """Two runs: what their sessions came to, and what differs between their trees."""

    runs: tuple[RunReport, RunReport]
    differences: tuple[TreeDifference, ...]

    @classmethod
    def of(cls, a: RunReport, b: RunReport) -> Comparison:
        """Raises CheckpointNotFound, CheckpointCorrupt: a tree cannot be read."""
        trees = [TrainingTree(Path(run.tree), run.scenario) for run in (a, b)]
        found = compare_trees(*trees, labels=(a.run_id[:8], b.run_id[:8]))
        return cls((a, b), tuple(found))

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": REPORT_SCHEMA,
            "runs": [asdict(run) for run in self.runs],
            "differences": [asdict(difference) for difference in self.differences],
        }

    def lines(self) -> Iterator[str]:
        for run in self.runs:
            best = f", best {run.best_score:.4g}" if run.best_score is not None else ""
            cost = f"{count(len(run.sessions), 'session')}, {duration(run.accelerator_s)}, {duration(run.lost_s)} lost"
            yield f"run {run.run_id[:8]}  {run.name}  {run.step} of {run.target}{best}; {cost}"
        for difference in self.differences:
            yield f"  {difference.topic}: {difference.words}"
        if not self.differences:
            yield "  nothing differs in configuration, environment, versions or results"
