"""The command that trains: `run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    PlatformOption,
    ScenarioOption,
    SectionArgument,
    WorkdirOption,
    errors_as_messages,
)
from kaggle_manager.progress import Reporter
from kaggle_manager.section import find_project


def run(
    section: SectionArgument,
    quick: Annotated[
        bool, typer.Option("--quick", help="2 timesteps over two sessions: the whole circle, in a tree of its own.")
    ] = False,
    scenario: ScenarioOption = None,
    timesteps: Annotated[int | None, typer.Option(help="Timesteps in all, over every session.")] = None,
    session_limit: Annotated[str | None, typer.Option(help="Longest session: 60s, 90m, 11h30m. [default: 12h]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from zero; the old tree is set aside.")] = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a section to its target, session after session.

    Examples:

      kaggle-manager run section_7_6_rl_performance --quick

      kaggle-manager run section_7_6_rl_performance --timesteps 3000 --session-limit 60s --platform local
    """
    from kaggle_manager.manager import ValidationKaggleManager

    with errors_as_messages(as_json=as_json), Reporter(sys.stderr if as_json else sys.stdout) as reporter:
        manager = ValidationKaggleManager(
            platform=platform, workdir=workdir, project_root=find_project(Path.cwd(), section), reporter=reporter
        )
        report = manager.run_validation_section(
            section, scenario=scenario, timesteps=timesteps, quick=quick, session_limit=session_limit, fresh=fresh
        )
    if as_json:
        print(report.to_json())
