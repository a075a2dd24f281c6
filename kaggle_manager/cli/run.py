"""Commands that carry a run on or end it: `run`, `tick`, `stop`, `fetch`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    PlatformOption,
    QuickOption,
    ScenarioOption,
    SectionArgument,
    WorkdirOption,
    errors_as_messages,
    print_json,
)
from kaggle_manager.config import build_config
from kaggle_manager.errors import NotFinished
from kaggle_manager.journal import Journal
from kaggle_manager.progress import Reporter
from kaggle_manager.report import REPORT_SCHEMA
from kaggle_manager.section import find_project

if TYPE_CHECKING:
    from kaggle_manager.manager import ValidationKaggleManager

TimestepsOption = Annotated[int | None, typer.Option("--timesteps", help="Timesteps in all, over every session.")]
LimitOption = Annotated[
    str | None, typer.Option("--session-limit", help="Longest session: 60s, 90m, 11h30m. [default: 12h]")
]
QuickRunOption = Annotated[
    bool, typer.Option("--quick", help="2 timesteps over two sessions: the whole circle, in a tree of its own.")
]


def run(
    section: SectionArgument,
    quick: QuickRunOption = False,
    scenario: ScenarioOption = None,
    timesteps: TimestepsOption = None,
    session_limit: LimitOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from zero; the old tree is set aside.")] = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a section to its target, session after session; the same line again goes on after anything.

    Examples:

      kaggle-manager run section_7_6_rl_performance --quick

      kaggle-manager run section_7_6_rl_performance --timesteps 3000 --session-limit 60s --platform local
    """
    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        report = _manager(section, platform, workdir, reporter).run_validation_section(
            section, scenario=scenario, timesteps=timesteps, quick=quick, session_limit=session_limit, fresh=fresh
        )
    if as_json:
        print(report.to_json())


def tick(
    section: SectionArgument,
    quick: QuickRunOption = False,
    scenario: ScenarioOption = None,
    timesteps: TimestepsOption = None,
    session_limit: LimitOption = None,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do all that can be done for a run now, wait for nothing, and say where it stands; for cron and the like.

    Exits with 0 when the target is reached and 8 when it is not yet; 5 and 6 when the quota or the platform must be
    waited for; anything else needs a person.

    Examples:

      kaggle-manager tick section_7_6_rl_performance

      kaggle-manager tick section_7_6_rl_performance --json
    """
    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        report = _manager(section, platform, workdir, reporter).tick(
            section, scenario=scenario, timesteps=timesteps, quick=quick, session_limit=session_limit
        )
        reporter.line(f"{report.state}: {report.why}")
    if as_json:
        print(report.to_json())
    if report.state != "finished":
        raise typer.Exit(NotFinished.exit_code)


def stop(
    section: SectionArgument,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the kernel on the platform as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it; without this it is only said.")] = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let no session follow, and end the one that runs when the platform can; `run` goes on later.

    Examples:

      kaggle-manager stop section_7_6_rl_performance

      kaggle-manager stop section_7_6_rl_performance --delete --yes
    """
    from kaggle_manager.connection import connect
    from kaggle_manager.stopping import stop_run

    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        config = build_config(section, scenario=scenario, quick=quick, platform=platform, workdir=workdir)
        with closing(Journal(config.journal)) as journal:
            stopped = stop_run(config, connect(config), journal, reporter, time.time(), delete=delete and yes)
        if as_json:
            print_json({"schema": REPORT_SCHEMA, **asdict(stopped)})
        reporter.line(f"run {stopped.run_id} is stopped: {stopped.words}")
        if delete and not yes:
            reporter.line("its kernel, with every version and output on the platform, is deleted with --delete --yes")


def fetch(
    section: SectionArgument,
    generation: Annotated[int | None, typer.Option(help="Which session; the newest when absent.")] = None,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download and verify what a session left once more; the training tree is not touched.

    Example:

      kaggle-manager fetch section_7_6_rl_performance --generation 2
    """
    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        fetched = _manager(section, platform, workdir, reporter).fetch_outputs(
            section, generation, scenario=scenario, quick=quick
        )
        files = sorted(str(file.relative_to(fetched.folder)) for file in fetched.folder.rglob("*") if file.is_file())
        if as_json:
            print_json({"schema": REPORT_SCHEMA, "folder": str(fetched.folder), "files": files})
        reporter.line(f"{len(files)} files, verified, are in {fetched.folder}")


def _reporter(as_json: bool) -> Reporter:
    return Reporter(sys.stderr if as_json else sys.stdout)


def _manager(section: str, platform: str | None, workdir: Path | None, reporter: Reporter) -> ValidationKaggleManager:
    from kaggle_manager.manager import ValidationKaggleManager

    project = find_project(Path.cwd(), section)
    return ValidationKaggleManager(platform=platform, workdir=workdir, project_root=project, reporter=reporter)
