"""`sweep`: many runs of one scenario under other values."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    LimitOption,
    MaxSessionsOption,
    PlatformOption,
    QuotaOption,
    SectionArgument,
    WorkdirOption,
    answer,
)
from kaggle_manager.cli.common import reporter as shown_by
from kaggle_manager.cli.selection import Selection, as_command
from kaggle_manager.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_manager.config import RunConfig
    from kaggle_manager.console.reporter import Reporter
    from kaggle_manager.sweeps.report import SweepReport


@dataclass(frozen=True)
class Swept(Selection):
    """A section whose `[sweep]` is carried on."""

    section: SectionArgument = ""
    session_limit: LimitOption = None
    quota_per_week: QuotaOption = None
    workdir: WorkdirOption = None
    platform: PlatformOption = None


@as_command
def sweep(
    trials: Annotated[int | None, typer.Option(help="Number of trials; section.toml's when absent.", min=1)] = None,
    max_sessions: MaxSessionsOption = None,
    confirm: Annotated[
        str | None,
        typer.Option(help="3x5: when all trials are over, train the best three again, each with five new seeds."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new sweep; the old one is kept.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show where it stands.")] = False,
    best: Annotated[bool, typer.Option("--best", help="Only show the best trial.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Make the command that runs the sweep end.")] = False,
    *,
    of: Swept,
    as_json: JsonOption = False,
) -> None:
    """Try hyperparameters in many trainings.

    The values come from the section's [sweep] table, see docs/sweeps.md. Each trial is a run of its own, which other
    commands take by --scenario. Run the same command again to resume after any interruption.

    Examples:

      km sweep --trials 40 --confirm 3x5

      km sweep --status
    """
    from kaggle_manager.config import state_folder
    from kaggle_manager.sections.trial import study_folder
    from kaggle_manager.sweeps.report import report_of
    from kaggle_manager.sweeps.study import STOP_FILE, Study

    if sum((status, best, stop)) > 1 or ((status or best or stop) and (fresh or confirm or trials)):
        raise ConfigError(
            "--status, --best and --stop each stand alone.", safe="nothing was started", next_step="give one of them"
        )
    with shown_by(as_json) as shown:
        if status or best or stop:
            study = Study.read(study_folder(state_folder(of.workdir), of.section))
            if stop:
                (study.folder / STOP_FILE).touch()
                shown.line("the sweep ends when it next looks; running sessions continue until they pause")
            report = _with_runs(of, report_of(study))
        else:
            report = _carry_on(of, shown, trials, max_sessions, _confirmed(confirm), fresh)
    if not (stop and not as_json):
        answer(report.as_json(), report.best_lines() if best else report.lines(), as_json=as_json)


def _carry_on(
    of: Swept,
    shown: Reporter,
    trials: int | None,
    max_sessions: int | None,
    confirm: tuple[int, int] | None,
    fresh: bool,
) -> SweepReport:
    from kaggle_manager.sections.trial import study_folder
    from kaggle_manager.sweeps.loop import SweepLoop
    from kaggle_manager.sweeps.report import report_of
    from kaggle_manager.sweeps.sampler import optuna_here
    from kaggle_manager.sweeps.study import Study, experiment_of, hold_sweep
    from kaggle_manager.trees.compatibility import current_identity

    config = of.config()
    table = config.section.sweep
    if table is None:
        raise ConfigError(
            f"Section {of.section} has no [sweep] table.",
            safe="nothing was started",
            next_step=f"add a [sweep] table to {config.section.folder / 'section.toml'} (docs/sweeps.md)",
        )
    optuna_here()
    config = of.config(scenario=table.scenario or config.section.default_scenario)
    folder = study_folder(config.state, of.section)
    with hold_sweep(folder):
        stops, experiment = table.stops(config.target), experiment_of(current_identity(config))
        study = Study.begin(folder, config.scenario_name, stops, table, experiment, fresh=fresh)
        build = partial(_run_of, of)
        loop = SweepLoop(of.manager(shown), study, build, shown, trials or table.trials, max_sessions)
        loop.run()
        confirmed = None
        if confirm is not None:
            chosen = report_of(study).best[: confirm[0]]
            confirmed = loop.confirm(chosen, _fresh_seeds(config, confirm[1]))
        return _with_runs(of, report_of(study, confirmed))


def _with_runs(of: Swept, report: SweepReport) -> SweepReport:
    """As the journal has the runs of its trials, on no platform."""
    from kaggle_manager.config import state_folder
    from kaggle_manager.runs.journal import Journal
    from kaggle_manager.status.run_status import describe_all

    with closing(Journal.to_read(state_folder(of.workdir) / "journal.sqlite")) as journal:
        runs = [run for run in describe_all(journal, time.time()) if run.section == of.section]
    return report.with_runs({run.scenario: run.state for run in reversed(runs) if run.seed is None})


def _run_of(of: Swept, scenario: str, seed: int | None) -> RunConfig:
    return of.config(scenario=scenario, seed=seed)


def _fresh_seeds(config: RunConfig, count: int) -> Sequence[int]:
    """Seeds under which no trial was trained."""
    first = (config.scenario.seed or 0) + 1
    return range(first, first + count)


def _confirmed(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,2})", text)
    if match is None:
        raise ConfigError(
            f"--confirm {text!r} is not trials x seeds.", safe="nothing was started", next_step="give it as 3x5"
        )
    return int(match[1]), int(match[2])
