"""What the page shows, as values: the runs of a state folder, from the journal and the training trees alone.

Promises: numbers are those of `run_status.describe_run`; nothing is written; what cannot be read is a sentence in
`problems`, and everything else is still there. Never asks a platform, and never believes a tree of another run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import workdir_of
from kaggle_manager.console.formatting import epoch
from kaggle_manager.dashboard.curves import Curve, read_curve
from kaggle_manager.dashboard.logs import LogTail, read_log
from kaggle_manager.dashboard.sessions import SessionLink, session_links
from kaggle_manager.dashboard.verification import Looked, Stamp, Verifier, stamp
from kaggle_manager.errors import KaggleManagerError, NotFound
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.runs.budget import forecast_error
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.metrics import past_sessions
from kaggle_manager.status.overview import Overview, overview
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.system.command_line import command
from kaggle_manager.trees.inspect import newest_of_run

DOWNLOADS, ARCHIVE, REPLACED = "downloads", "archive", "replaced"


@dataclass(frozen=True)
class EarlierForecast:
    """What was expected before one session, beside what came: steps, and when the target would be reached."""

    generation: int
    said_at: str
    done_at: str
    sessions: int
    expected_steps: int | None
    gained: int | None


@dataclass(frozen=True)
class Wait:
    """A wait written down: seconds since the epoch, and why."""

    since: float
    until: float
    why: str


@dataclass(frozen=True)
class Quota:
    """Accelerator time left of the week, in seconds, when it was last asked for."""

    asked_at: str
    left_s: float
    total_s: float
    refresh_at: float | None


@dataclass(frozen=True)
class RunView:
    """One run with everything the page shows of it.

    Attributes:
        report: what `status` says.
        tree: the folder its checkpoints and curve were found in; None when nothing is left of it.
        forecast_error: median of (gained - expected) / expected; None before the first forecast.
        identity: what the newest checkpoint says it trains.
        problems: what could not be read, in sentences.
    """

    report: RunReport
    finished_at: str | None
    now: float
    tree: Path | None
    lineage: tuple[SessionLink, ...]
    curve: Curve
    looked: Looked
    waits: tuple[Wait, ...]
    quota: Quota | None
    forecasts: tuple[EarlierForecast, ...]
    forecast_error: float | None
    identity: Mapping[str, Any]
    log: LogTail
    problems: tuple[str, ...] = ()

    @property
    def training_tree(self) -> TrainingTree | None:
        return None if self.tree is None else TrainingTree(self.tree, self.report.scenario)

    def as_json(self) -> dict[str, Any]:
        """The run as the page's own data: the report, and what the report has no room for."""
        return {
            "schema": 1,
            "run": self.report.as_json(),
            "generations": [asdict(session) for session in self.lineage],
            "curve": asdict(self.curve),
            "checkpoints": [
                {
                    "level": view.level,
                    "step": view.manifest.step if view.manifest else None,
                    "size": view.size,
                    "hash_state": view.hash_state,
                    "problem": view.problem,
                }
                for view in self.looked.checkpoints
            ],
            "verified_at": self.looked.verified_at,
            "quota": None if self.quota is None else asdict(self.quota),
            "forecasts": [asdict(forecast) for forecast in self.forecasts],
            "forecast_error": self.forecast_error,
            "identity": self.identity,
            "log": asdict(self.log),
            "problems": list(self.problems),
        }


class Dashboard:
    """Looks at a state folder, as often as it is asked to.

    Args:
        state: the folder with the journal; need not exist.
        verifier: reads and remembers the bytes of checkpoints.
        clock: seconds since the epoch.
    """

    def __init__(
        self, state: Path, *, verifier: Verifier | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.state = state.absolute()
        self.verifier = verifier or Verifier()
        self.clock = clock
        self._curves: dict[Path, tuple[Stamp, Curve]] = {}

    def status(self) -> dict[str, Any]:
        """What `kaggle-manager status --json` prints."""
        return self.overview().as_json()

    def overview(self) -> Overview:
        """Every run, the most urgent first.

        Raises:
            StorageError: the journal cannot be read.
        """
        with closing(self._journal()) as journal:
            return overview(journal, None, self.clock())

    def run(self, run_id: str, *, verify: bool = False) -> RunView:
        """One run; `verify` reads the bytes of its checkpoints now instead of in the background.

        Raises:
            NotFound: there is no such run.
            StorageError: the journal cannot be read.
        """
        with closing(self._journal()) as journal:
            row = next((row for row in journal.runs() if row.run_id == run_id), None)
            if row is None:
                todo = command("history", workdir=workdir_of(self.state))
                raise NotFound(f"There is no run {run_id[:80]!r} in {self.state}.", next_step=todo)
            return self._view(journal, row, verify)

    def _journal(self) -> Journal:
        return Journal.to_read(self.state / "journal.sqlite")

    def _view(self, journal: Journal, row: RunRow, verify: bool) -> RunView:
        run = RunState(journal, row)
        now, sessions, events = self.clock(), journal.sessions(row.run_id), journal.events(row.run_id)
        problems: list[str] = []
        downloads = self.state / DOWNLOADS / row.run_id
        folder, looked, curve = None, Looked(()), Curve()
        try:
            folder = self._tree_of(row)
            if folder is not None:
                tree = TrainingTree(folder, row.scenario)
                looked = self.verifier.verify(tree) if verify else self.verifier.look(tree)
                curve = self._curve(tree.history)
            elif any(session.facts.get("gained") for session in sessions):
                problems.append(f"The training tree {row.tree} does not hold this run any more.")
        except (KaggleManagerError, OSError) as error:
            problems.append(f"The training tree cannot be read: {getattr(error, 'message', error)}")
        head = next((view.manifest for view in looked.checkpoints if view.manifest), None)
        return RunView(
            report=describe_run(run, now),
            finished_at=row.finished_at,
            now=now,
            tree=folder,
            lineage=tuple(session_links(sessions, events, downloads)),
            curve=curve,
            looked=looked,
            waits=_waits(events),
            quota=_quota(events),
            forecasts=tuple(_forecasts(sessions, events)),
            forecast_error=forecast_error(past_sessions(sessions)),
            identity=head.identity if head else {},
            log=read_log(downloads, sessions),
            problems=(*problems, *curve.problems),
        )

    def _tree_of(self, row: RunRow) -> Path | None:
        """Where the newest checkpoints of this very run lie: a later run may train the same folder."""
        kept = (
            *(self.state / ARCHIVE).glob("*"),
            *(self.state / REPLACED / row.run_id).glob("*"),
            *(self.state / DOWNLOADS / row.run_id).glob(f"*/{TREE_FOLDER}"),
        )
        found = [
            (head.step, folder)
            for folder in kept
            if (head := newest_of_run(TrainingTree(folder, row.scenario), row.run_id))
        ]
        if newest_of_run(TrainingTree(Path(row.tree), row.scenario), row.run_id):
            return Path(row.tree)
        return max(found)[1] if found else None

    def _curve(self, history: Path) -> Curve:
        now, known = stamp(history.rglob("*")), self._curves.get(history)
        if known is None or known[0] != now:
            known = self._curves[history] = (now, read_curve(history))
        return known[1]


def _waits(events: Sequence[Mapping[str, Any]]) -> tuple[Wait, ...]:
    found = (event for event in events if event["kind"] == "waits")
    return tuple(Wait(epoch(event["at"]), event["detail"]["until"], event["detail"]["why"]) for event in found)


def _quota(events: Sequence[Mapping[str, Any]]) -> Quota | None:
    found = [event for event in events if event["kind"] == "quota"]
    if not found:
        return None
    detail = found[-1]["detail"]
    return Quota(found[-1]["at"], detail["left_s"], detail["total_s"], detail.get("refresh_at"))


def _forecasts(sessions: Sequence[SessionRow], events: Sequence[Mapping[str, Any]]) -> list[EarlierForecast]:
    facts = {session.generation: session.facts for session in sessions}
    found = []
    for event in events:
        if event["kind"] == "forecast":
            number, detail = event["generation"], event["detail"]
            known = facts.get(number, {})
            expected = (known.get("planned") or {}).get("steps")
            found.append(
                EarlierForecast(
                    number, event["at"], detail["done_at"], detail["sessions"], expected, known.get("gained")
                )
            )
    return found
