"""Commands that train: `run`, and `restore` of a kept copy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    PlatformOption,
    QuickOption,
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


def restore(
    section: SectionArgument,
    source: Annotated[Path, typer.Option("--from", help="The copy: a downloaded, replaced or archived tree.")],
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
) -> None:
    """Put a kept copy of a training tree in its place again; what is there is archived.

    Example:

      kaggle-manager restore section_7_6_rl_performance --from .kaggle_manager/archive/<tree>
    """
    from kaggle_manager.manager import ValidationKaggleManager

    with errors_as_messages(), Reporter() as reporter:
        project = find_project(Path.cwd(), section)
        manager = ValidationKaggleManager(workdir=workdir, project_root=project, reporter=reporter)
        manager.restore_copy(section, source, scenario=scenario, quick=quick)
