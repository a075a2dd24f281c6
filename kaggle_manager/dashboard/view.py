"""What the page shows, as values: the runs of a state folder, from the journal and the training trees alone.

Promises: numbers are those of `status`; nothing is written; what cannot be read is a sentence in
`problems`, and everything else is still there. Never asks a platform, and never trusts a tree of another run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import workdir_of
from kaggle_manager.dashboard.curves import Curve, CurveReader, Points
from kaggle_manager.dashboard.groups import Group, GroupView, groups_of, sweeps_in
from kaggle_manager.dashboard.live import Account, QuotaAsked, accounts
from kaggle_manager.dashboard.logs import LogTail, read_log
from kaggle_manager.dashboard.sessions import SessionLink, session_links
from kaggle_manager.dashboard.verification import Looked, Verifier
from kaggle_manager.errors import KaggleManagerError, NotFound
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.runs.budget import forecast_error
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.metrics import past_sessions
from kaggle_manager.status.overview import Overview, overview
from kaggle_manager.status.report import RunReport
from kaggle_manager.sweeps.report import SweepReport
from kaggle_manager.system.command_line import command
from kaggle_manager.system.formatting import epoch
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
class RunView:
    """One run with everything the page shows of it.

    Attributes:
        report: what `status` says.
        group: the campaign or sweep that it is of; None for a run by itself.
        training_tree: where its checkpoints and curve were found; None when nothing is left of it.
        forecast_error: median of (gained - expected) / expected; None before the first forecast.
        identity: what the newest checkpoint says it trains.
        problems: what could not be read, in sentences.
    """

    report: RunReport
    group: Group | None
    finished_at: str | None
    now: float
    training_tree: TrainingTree | None
    lineage: tuple[SessionLink, ...]
    curve: Curve
    looked: Looked
    waits: tuple[Wait, ...]
    quota: QuotaAsked | None
    forecasts: tuple[EarlierForecast, ...]
    forecast_error: float | None
    identity: Mapping[str, Any]
    log: LogTail
    problems: tuple[str, ...] = ()

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
        self.curves = CurveReader()

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """What is there now; everything that is asked of it is of this moment.

        Raises:
            StorageError: the journal cannot be read.
        """
        with closing(Journal.to_read(self.state / "journal.sqlite")) as journal:
            yield Moment(self, journal)

    def status(self) -> dict[str, Any]:
        """What `km status --json` prints."""
        with self.moment() as moment:
            return moment.overview.as_json()

    def run(self, run_id: str, *, verify: bool = False) -> RunView:
        """One run; `verify` reads the bytes of its checkpoints now instead of in the background.

        Raises:
            NotFound: there is no such run.
            StorageError: the journal cannot be read.
        """
        with self.moment() as moment:
            if run_id not in moment.reports:
                todo = command("history", workdir=workdir_of(self.state))
                raise NotFound(f"There is no run {run_id[:80]!r} in {self.state}.", next_step=todo)
            return moment.run(run_id, verify=verify)


class Moment:
    """A state folder at one moment."""

    def __init__(self, dashboard: Dashboard, journal: Journal) -> None:
        self._dashboard, self._journal = dashboard, journal
        self.state, self.now = dashboard.state, dashboard.clock()

    @cached_property
    def overview(self) -> Overview:
        """Every run, the most urgent first."""
        return overview(self._journal, None, self.now)

    @cached_property
    def reports(self) -> dict[str, RunReport]:
        """The same by run id."""
        return {report.run_id: report for report in self.overview.runs}

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Campaigns and sweeps by their keys, the one with the most urgent run first."""
        sweeps = [sweep for sweep in self._sweeps if not isinstance(sweep, str)]
        found = groups_of(self.overview.runs, self._journal.newest_runs(), sweeps)
        return {group.key: group for group in found}

    @property
    def problems(self) -> list[str]:
        """Sentences about what belongs to no run and could not be read."""
        return [sweep for sweep in self._sweeps if isinstance(sweep, str)]

    @cached_property
    def _sweeps(self) -> list[tuple[SweepReport, str] | str]:
        return list(sweeps_in(self.state))

    @cached_property
    def _rows(self) -> dict[str, RunRow]:
        return {row.run_id: row for row in self._journal.runs()}

    def accounts(self) -> list[Account]:
        """The accounts that the runs train on."""
        owners = {row.run_id: row.owner for row in self._rows.values()}
        quotas = {event["run_id"]: _quota(event) for event in self._journal.newest_events("quota")}
        return accounts(self.overview.runs, owners, quotas, self.now)

    def run(self, run_id: str, *, verify: bool = False) -> RunView:
        """One run; `verify` reads the bytes of its checkpoints now instead of in the background."""
        row = self._rows[run_id]
        sessions, events = self._journal.sessions(run_id), self._journal.events(run_id)
        problems: list[str] = []
        downloads, verifier = self.state / DOWNLOADS / run_id, self._dashboard.verifier
        tree, looked, curve = None, Looked(()), Curve()
        try:
            tree = self._tree_of(row)
            if tree is not None:
                looked = verifier.verify(tree) if verify else verifier.look(tree)
                curve = self._dashboard.curves.read(tree)
            elif any(session.facts.get("gained") for session in sessions):
                problems.append(f"The training tree {row.tree} no longer contains this run.")
        except (KaggleManagerError, OSError) as error:
            problems.append(f"The training tree cannot be read: {getattr(error, 'message', error)}")
        head = next((view.manifest for view in looked.checkpoints if view.manifest), None)
        quotas = [_quota(event) for event in events if event["kind"] == "quota"]
        return RunView(
            report=self.reports[run_id],
            group=next((group for group in self.groups.values() if self.reports[run_id] in group.runs), None),
            finished_at=row.finished_at,
            now=self.now,
            training_tree=tree,
            lineage=tuple(session_links(sessions, events, downloads)),
            curve=curve,
            looked=looked,
            waits=_waits(events),
            quota=quotas[-1] if quotas else None,
            forecasts=tuple(_forecasts(sessions, events)),
            forecast_error=forecast_error(past_sessions(sessions)),
            identity=head.identity if head else {},
            log=read_log(downloads, sessions),
            problems=(*problems, *curve.problems),
        )

    def group(self, key: str) -> GroupView:
        """One campaign or sweep; what cannot be read of a run is said on its own page."""
        group = self.groups[key]
        trees: dict[str, TrainingTree] = {}
        quantities: dict[str, dict[str, Points]] = {}
        for report in group.runs:
            with contextlib.suppress(KaggleManagerError, OSError):
                tree = self._tree_of(self._rows[report.run_id])
                if tree is not None:
                    trees[report.run_id] = tree
                    for name, points in self._dashboard.curves.read(tree, with_episodes=False).quantities.items():
                        quantities.setdefault(name, {})[report.run_id] = points
        return GroupView(group, quantities, next(iter(trees.values()), None))

    def _tree_of(self, row: RunRow) -> TrainingTree | None:
        """Where the newest checkpoints of this very run lie: a later run may train the same folder."""
        own = TrainingTree(Path(row.tree), row.scenario)
        if newest_of_run(own, row.run_id):
            return own
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
        return TrainingTree(max(found)[1], row.scenario) if found else None


def _waits(events: Sequence[Mapping[str, Any]]) -> tuple[Wait, ...]:
    found = (event for event in events if event["kind"] == "waits")
    return tuple(Wait(epoch(event["at"]), event["detail"]["until"], event["detail"]["why"]) for event in found)


def _quota(event: Mapping[str, Any]) -> QuotaAsked:
    detail = event["detail"]
    return QuotaAsked(event["at"], detail["left_s"], detail["total_s"], detail.get("refresh_at"))


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
