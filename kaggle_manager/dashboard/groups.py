"""Runs that belong together: the seeds of one scenario, and the trials of a sweep. Changes nothing.

Promises: a run is in one group at most; of each training tree its newest run alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.dashboard.curves import Points
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.protocol.document import first_problem
from kaggle_manager.sections.trial import STUDY_FILE, study_folder
from kaggle_manager.status.report import RunReport
from kaggle_manager.sweeps.report import SweepReport, is_over, report_of
from kaggle_manager.sweeps.study import Study, sweep_command
from kaggle_manager.system.formatting import count, training


@dataclass(frozen=True)
class Group:
    """A campaign or a sweep.

    Attributes:
        runs: one for each seed or trial, in their order.
        sweep: what the study says of the trials; None for a campaign.
        next: the command that continues a sweep; '' for one that is over, and for a campaign: its runs have their own.
    """

    section: str
    scenario: str
    quick: bool
    runs: tuple[RunReport, ...]
    sweep: SweepReport | None = None
    next: str = ""

    @property
    def key(self) -> str:
        """Its name in an address."""
        kind = "sweep" if self.sweep else "quick" if self.quick else "seeds"
        return f"{self.section}/{self.scenario}/{kind}"

    @property
    def id(self) -> str:
        """The end of the ids of its elements on the page."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        if self.sweep:
            return f"sweep of {self.scenario}, {count(len(self.sweep.trials), 'trial')}"
        return f"{training(self.scenario, None, quick=self.quick)}, {count(len(self.runs), 'seed')}"

    @property
    def step(self) -> int:
        """Steps saved, over its runs."""
        return sum(run.step for run in self.runs)

    @property
    def target(self) -> int:
        return sum(run.target for run in self.runs)

    @property
    def best(self) -> str:
        """The score of a sweep's best trial; of a campaign the lowest and the highest of its runs' best scores."""
        if self.sweep:
            first = next((self.sweep.trial(number) for number in self.sweep.best), None)
            return f"{first.scores[-1]:.6g} (trial {first.number})" if first else ""
        scores = sorted({run.best_score for run in self.runs if run.best_score is not None})
        return " to ".join(f"{score:.6g}" for score in dict.fromkeys([*scores[:1], *scores[-1:]]))

    def name_of(self, run: RunReport) -> str:
        """What to call one of its runs."""
        if self.sweep:
            return f"trial {next(each.number for each in self.sweep.trials if each.scenario == run.scenario)}"
        return "own seed" if run.seed is None else f"seed {run.seed}"


@dataclass(frozen=True)
class GroupView:
    """A group with what the page shows of it.

    Attributes:
        quantities: what its runs are compared by, each with the curves by run id.
        training_tree: of one of its runs, for what all have alike; None when nothing is left of any.
    """

    group: Group
    quantities: Mapping[str, Mapping[str, Points]]
    training_tree: TrainingTree | None


def groups_of(
    reports: Sequence[RunReport], newest: Collection[str], sweeps: Sequence[tuple[SweepReport, str]]
) -> tuple[Group, ...]:
    """The groups among these runs, in the order of their first runs; sweeps without a run last.

    Args:
        reports: the most urgent first.
        newest: ids of the runs that trained their trees last.
        sweeps: each with the command that continues it, '' for one that is over.
    """
    rest = [run for run in reports if run.run_id in newest]
    found = []
    for sweep, again in sweeps:
        numbers = {trial.scenario: trial.number for trial in sweep.trials}
        own = [
            run
            for run in rest
            if run.section == sweep.section and run.scenario in numbers and run.seed is None and not run.quick
        ]
        rest = [run for run in rest if run not in own]
        ordered = tuple(sorted(own, key=lambda run: numbers[run.scenario]))
        found.append(Group(sweep.section, sweep.scenario, False, ordered, sweep, again))
    for section, scenario, quick in dict.fromkeys((run.section, run.scenario, run.quick) for run in rest):
        own = [run for run in rest if (run.section, run.scenario, run.quick) == (section, scenario, quick)]
        if len({run.seed for run in own}) > 1:
            ordered = tuple(sorted(own, key=lambda run: -1 if run.seed is None else run.seed))
            found.append(Group(section, scenario, quick, ordered))
    place = {run.run_id: number for number, run in enumerate(reports)}
    return tuple(sorted(found, key=lambda group: min((place[run.run_id] for run in group.runs), default=len(place))))


def sweeps_in(state: Path) -> Iterator[tuple[SweepReport, str] | str]:
    """Every sweep of a state folder, as `groups_of` takes them; a sentence for one that cannot be read."""
    for file in sorted(study_folder(state, "").glob(f"*/{STUDY_FILE}")):
        try:
            study = Study.read(file.parent)
            yield report_of(study), "" if is_over(study) else sweep_command(file.parent)
        except KaggleManagerError as error:
            yield error.message
        except ValidationError as error:  # a [sweep] table that is none
            yield f"{file} cannot be read: {first_problem(error)}."
