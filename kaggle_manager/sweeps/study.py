"""A sweep on disk: `study.json`, the one truth about its trials; everything else is made from it.

Promises: a trial is in the file, with its values, before anything of it is started; each step of a sweep is one atomic
write, so that a manager that is killed at any moment finds the state before it or the one after it; no result is
written twice. The sampler is asked from what is here and writes nothing (see `sampler`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue, NonNegativeInt, PositiveInt

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.config import workdir_of
from kaggle_manager.errors import UPDATE, Busy, ConfigError, NotFound, StorageError
from kaggle_manager.protocol.document import Document, LaterSchema, Part
from kaggle_manager.sections.fields import Table
from kaggle_manager.sections.sweep import Sweep
from kaggle_manager.sections.trial import STUDY_FILE, STUDY_SCHEMA, Trial, state_of_study
from kaggle_manager.sweeps.decide import Rules, TrialView
from kaggle_manager.system.command_line import command
from kaggle_manager.system.file_lock import hold

LOCK_FILE, STOP_FILE = "lock", "stop"


class Begun(Part):
    """A trial, and when it was sent to each rung, by the clock of the sweep (see `decide`)."""

    number: NonNegativeInt
    values: Table
    sent: tuple[NonNegativeInt, ...]


class Result(Part):
    """How a trial came to a rung, or failed on its way.

    Attributes:
        step: of its newest checkpoint.
        failure: in words; '' for none.
        alike: what alike failures at the start are recognised by.
    """

    trial: NonNegativeInt
    step: NonNegativeInt
    score: float | None = None
    failure: str = ""
    alike: str = ""


class StudyState(Document):
    """What the file says.

    Attributes:
        scenario, stops, sweep: what is swept, and at which steps trials are judged; a study is of one such table.
        experiment: digest of the identity of what is swept.
        first: number of its first trial; those before it are of an earlier study.
        answered: results whose failures the user has seen, and gone on.
        halted: why nothing continues without the user; '' for nothing.
    """

    SCHEMA = STUDY_SCHEMA

    scenario: str
    stops: tuple[PositiveInt, ...]
    sweep: dict[str, Any]
    experiment: str
    first: NonNegativeInt = 0
    trials: tuple[Begun, ...] = ()
    results: tuple[Result, ...] = ()
    answered: NonNegativeInt = 0
    halted: str = ""


@dataclass
class Study:
    """The study of one section in one state folder."""

    folder: Path
    state: StudyState
    disk: Disk = field(default_factory=Disk)

    @classmethod
    def read(cls, folder: Path) -> Study:
        """The study that is there.

        Raises:
            NotFound: there is none.
            StorageError: it cannot be read.
        """
        file = folder / STUDY_FILE
        try:
            return cls(folder, StudyState.from_json(json.loads(file.read_bytes())))
        except FileNotFoundError:
            begin = sweep_command(folder)
            raise NotFound(
                f"No sweep of {folder.name} was started here.", safe="nothing was changed", next_step=begin
            ) from None
        except (OSError, ValueError) as error:
            next_step = UPDATE if isinstance(error, LaterSchema) else "restore it from a copy"
            raise StorageError(
                f"{file} cannot be read: {error}.", safe="the training trees", next_step=next_step
            ) from error

    @classmethod
    def begin(
        cls,
        folder: Path,
        scenario: str,
        stops: tuple[int, ...],
        sweep: Sweep,
        experiment: str,
        *,
        fresh: bool = False,
        disk: Disk | None = None,
    ) -> Study:
        """The study that is there, of the same table; else a new one.

        Args:
            fresh: a new one in any case; the other is kept beside it, and its trials keep their numbers.

        Raises:
            ConfigError: another table was swept, and `fresh` was not asked for.
            StorageError: the one that is there cannot be read.
        """
        table, disk = _table(sweep), disk or Disk()
        there = cls.read(folder) if (folder / STUDY_FILE).is_file() else None
        if there is not None and not fresh:
            its, own = there.state, (scenario, stops, table, experiment)
            if (its.scenario, its.stops, its.sweep, its.experiment) != own:
                what = (
                    "[sweep] table, scenario or target" if its.experiment == experiment else "scenario or environment"
                )
                raise ConfigError(
                    f"The sweep of {folder.name} was begun with another {what}: its trials cannot be compared with "
                    "those of this one.",
                    safe="nothing was started; the sweep is as it was",
                    next_step=f"undo the change; or begin anew, which keeps the old one beside it: "
                    f"{sweep_command(folder, '--fresh')}",
                )
            return cls(folder, there.state, disk)
        folder.mkdir(parents=True, exist_ok=True)
        first = 0
        if there is not None:
            first = there.state.first + len(there.state.trials)
            write_atomic(disk, folder / f"study_before_trial_{first}.json", there._bytes(there.state))
        study = cls(
            folder, StudyState(scenario=scenario, stops=stops, sweep=table, experiment=experiment, first=first), disk
        )
        study._write(study.state)
        return study

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def sweep(self) -> Sweep:
        """The table it is of; how many trials are asked for is the command's."""
        return Sweep.model_validate(self.state.sweep)

    def rules(self, trials: int) -> Rules:
        sweep = self.sweep
        keeps = {"halving": sweep.reduction, "median": 2, "none": 1}[sweep.pruner]
        return Rules(trials, self.state.stops, sweep.at_once, keeps, sweep.direction == "maximize")

    def views(self) -> list[TrialView]:
        """Its trials, as `decide` looks at them."""
        return [
            TrialView(
                each.number,
                each.sent,
                tuple(result.score for result in self.results_of(each.number) if result.score is not None),
                any(result.failure for result in self.results_of(each.number)),
            )
            for each in self.state.trials
        ]

    def results_of(self, number: int) -> list[Result]:
        return [result for result in self.state.results if result.trial == number]

    def failures(self) -> list[str]:
        """As `decide` takes them."""
        return [result.alike for result in self.state.results[self.state.answered :]]

    def trial(self, number: int) -> Trial:
        each = next(each for each in self.state.trials if each.number == number)
        return Trial(of=self.state.scenario, number=number, values=each.values)

    @property
    def next_number(self) -> int:
        return self.state.first + len(self.state.trials)

    # --- its steps: each is one write ---------------------------------------------------------------------------------

    def add(self, values: dict[str, JsonValue], at: int) -> Trial:
        """Begin the next trial."""
        begun = Begun(number=self.next_number, values=values, sent=(at,))
        self._change(trials=(*self.state.trials, begun))
        return self.trial(begun.number)

    def promote(self, number: int, at: int) -> None:
        """Send a trial on to its next rung."""
        self._change(
            trials=tuple(
                each.model_copy(update={"sent": (*each.sent, at)}) if each.number == number else each
                for each in self.state.trials
            )
        )

    def tell(self, result: Result) -> None:
        """Write down how a trial came to its rung, or failed: once."""
        view = next(view for view in self.views() if view.number == result.trial)
        assert view.is_on_its_way, f"trial {result.trial} was told already"
        self._change(results=(*self.state.results, result))

    def halt(self, why: str) -> None:
        self._change(halted=why)

    def go_on(self) -> None:
        """The user has seen why it was halted, and runs it again."""
        if self.state.halted:
            self._change(halted="", answered=len(self.state.results))

    def _change(self, **changes: Any) -> None:
        self._write(self.state.model_copy(update=changes))

    def _write(self, state: StudyState) -> None:
        write_atomic(self.disk, self.folder / STUDY_FILE, self._bytes(state))
        self.state = state

    @staticmethod
    def _bytes(state: StudyState) -> bytes:
        return json.dumps(state.as_json(), indent=1).encode()


def _table(sweep: Sweep) -> dict[str, Any]:
    """What trials are comparable by: all but how many there are."""
    return {**sweep.model_dump(mode="json", exclude_none=True), "trials": 1}


def sweep_command(folder: Path, *words: object) -> str:
    """The command about the sweep in this folder, as it is typed."""
    return command("sweep", folder.name, *words, workdir=workdir_of(state_of_study(folder)))


def experiment_of(identity: Mapping[str, Any]) -> str:
    """Digest of what the scenario that is swept is, see `sections.identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@contextmanager
def hold_sweep(folder: Path) -> Iterator[None]:
    """Hold a sweep for this process alone.

    Raises:
        Busy: another command carries it on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / LOCK_FILE) as mine:
        if not mine:
            raise Busy(
                f"Another command carries the sweep of {folder.name} on.",
                safe="nothing was started",
                next_step=f"wait for it, or stop it: {sweep_command(folder, '--stop')}",
            )
        (folder / STOP_FILE).unlink(missing_ok=True)
        yield
