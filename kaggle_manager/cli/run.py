"""Commands that carry a run on or end it: `run`, `tick`, `stop`, `fetch`, `attach`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    LimitOption,
    PlatformOption,
    QuickOption,
    ScenarioOption,
    SectionArgument,
    SeedOption,
    SeedsOption,
    TimestepsOption,
    WorkdirOption,
    errors_as_messages,
    print_json,
)
from kaggle_manager.cli.quick import quick_may_be_meant
from kaggle_manager.config import build_config
from kaggle_manager.console.formatting import count
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, NotFinished
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.project import find_project, get_section
from kaggle_manager.status.report import REPORT_SCHEMA, RunReport

if TYPE_CHECKING:
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager
    from kaggle_manager.status.overview import Overview

QuickRunOption = Annotated[
    bool, typer.Option("--quick", help="2 timesteps over two sessions: the whole circle, in a tree of its own.")
]


IntersectionOption = Annotated[
    str | None, typer.Option("--intersection", help="The scenario at this intersection, instead of --scenario.")
]


def run(
    section: SectionArgument,
    quick: QuickRunOption = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="The section's demonstration, over short sessions, with its report.")
    ] = False,
    scenario: ScenarioOption = None,
    intersection: IntersectionOption = None,
    timesteps: TimestepsOption = None,
    session_limit: LimitOption = None,
    seed: SeedOption = None,
    seeds: SeedsOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from zero; the old tree is set aside.")] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the section's report once the target is reached.")
    ] = True,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a section to its target, session after session; the same line again goes on after anything.

    Examples:

      kaggle-manager run section_7_6_rl_performance --quick

      kaggle-manager run section_7_6_rl_performance --timesteps 3000 --session-limit 60s --platform local

      kaggle-manager run section_7_6_rl_performance --intersection ingolstadt1 --seeds 5
    """
    from kaggle_manager.orchestrator.demo import demonstrate
    from kaggle_manager.orchestrator.final_report import write_final_report

    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        if demo:
            others: dict[str, object] = {"--quick": quick or None, "--fresh": fresh or None, "--scenario": scenario}
            others |= {"--intersection": intersection, "--timesteps": timesteps, "--session-limit": session_limit}
            others |= {"--seed": seed, "--seeds": seeds}
            if given := [name for name, value in others.items() if value is not None]:
                raise ConfigError(
                    f"--demo does not go with {' and '.join(given)}: the section declares what it trains.",
                    safe="nothing was started",
                    next_step="give one or the other",
                )
            _print(demonstrate(section, reporter, platform=platform, workdir=workdir), as_json=as_json)
            return
        scenario = _scenario(section, scenario, intersection)
        manager = _manager(section, platform, workdir, reporter)
        options: dict[str, Any] = {
            "scenario": scenario,
            "timesteps": timesteps,
            "quick": quick,
            "session_limit": session_limit,
        }
        if seeds is not None:
            if fresh or seed is not None:
                raise ConfigError("--seeds goes with neither --seed nor --fresh.", next_step="give one of them")
            from kaggle_manager.orchestrator.campaign import campaign_of

            campaign = campaign_of(manager, section, seeds, reporter, **options)
            seen = campaign.run()
            _print(seen, as_json=as_json)
        else:
            _print(manager.run_validation_section(section, seed=seed, fresh=fresh, **options), as_json=as_json)
        if report and not quick:
            write_final_report(build_config(section, scenario=scenario, workdir=workdir), reporter)


def tick(
    section: SectionArgument,
    quick: QuickRunOption = False,
    scenario: ScenarioOption = None,
    intersection: IntersectionOption = None,
    timesteps: TimestepsOption = None,
    session_limit: LimitOption = None,
    seed: SeedOption = None,
    seeds: SeedsOption = None,
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
        scenario = _scenario(section, scenario, intersection)
        manager = _manager(section, platform, workdir, reporter)
        options: dict[str, Any] = {
            "scenario": scenario,
            "timesteps": timesteps,
            "quick": quick,
            "session_limit": session_limit,
        }
        if seeds is not None:
            from kaggle_manager.orchestrator.campaign import campaign_of

            campaign = campaign_of(manager, section, seeds, reporter, **options)
            campaign.round()
            seen = campaign.overview()
            _print(seen, as_json=as_json)
            finished = campaign.is_finished()
        else:
            report = manager.tick(section, seed=seed, **options)
            reporter.line(f"{report.state}: {report.why}")
            _print(report, as_json=as_json)
            finished = report.state == "finished"
    if not finished:
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
    from kaggle_manager.orchestrator.stop import stop_run
    from kaggle_manager.sessions.connection import connect

    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        config = build_config(section, scenario=scenario, quick=quick, platform=platform, workdir=workdir)
        with closing(Journal(config.journal)) as journal, quick_may_be_meant(config):
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
        with quick_may_be_meant(build_config(section, scenario=scenario, quick=quick, workdir=workdir)):
            fetched = _manager(section, platform, workdir, reporter).fetch_outputs(
                section, generation, scenario=scenario, quick=quick
            )
        files = sorted(str(file.relative_to(fetched.folder)) for file in fetched.folder.rglob("*") if file.is_file())
        if as_json:
            print_json({"schema": REPORT_SCHEMA, "folder": str(fetched.folder), "files": files})
        reporter.line(f"{count(len(files), 'file')} in {fetched.folder}, verified")


def attach(
    section: SectionArgument,
    run_id: Annotated[str, typer.Argument(help="Id of the run, as `status` or its kernel's log says it.")],
    scenario: ScenarioOption = None,
    seed: SeedOption = None,
    quick: QuickOption = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take up a run that another machine started: the credentials and its id are enough; `run` or `tick` goes on.

    Example:

      kaggle-manager attach section_7_6_rl_performance 54e9ec588cf649eea9a33149a339b284
    """
    with errors_as_messages(as_json=as_json), _reporter(as_json) as reporter:
        attached = _manager(section, platform, workdir, reporter).attach(
            section, run_id, scenario=scenario, seed=seed, quick=quick
        )
        if as_json:
            print_json({"schema": REPORT_SCHEMA, **asdict(attached)})


def _scenario(section: str, scenario: str | None, intersection: str | None) -> str | None:
    if intersection is None:
        return scenario
    if scenario is not None:
        raise ConfigError("--scenario and --intersection exclude each other.", next_step="give one of them")
    return get_section(find_project(Path.cwd(), section), section).scenario_at(intersection)


def _print(seen: RunReport | Overview, *, as_json: bool) -> None:
    if as_json:
        print_json(seen.as_json())


def _reporter(as_json: bool) -> Reporter:
    return Reporter(sys.stderr if as_json else sys.stdout)


def _manager(section: str, platform: str | None, workdir: Path | None, reporter: Reporter) -> ValidationKaggleManager:
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager

    project = find_project(Path.cwd(), section)
    return ValidationKaggleManager(platform=platform, workdir=workdir, project_root=project, reporter=reporter)
