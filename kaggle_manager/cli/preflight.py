"""`preflight`: is a section worth a session?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, PlatformOption, SectionArgument, WorkdirOption, print_json, reporter
from kaggle_manager.cli.extras import how_to_install
from kaggle_manager.cli.selection import as_command
from kaggle_manager.errors import ConfigError, VerificationError
from kaggle_manager.system.command_line import WhichTree


@as_command
def preflight(
    section: SectionArgument = "",
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help="Scenario; repeatable; all of them when absent.")
    ] = None,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    thorough: Annotated[bool, typer.Option("--thorough", help="Check everything for longer; takes minutes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check on this machine what a session would train.

    Takes seconds, before the first session is spent on it. It tries exactly the files that are sent into a session,
    without the packages that a session lacks. Ends with 3 when a check fails. Needs the training libraries. `run` does
    the same before it pushes, once for each state of the code. Which packages and how much memory a session has depends
    on its platform.

    Examples:

      km preflight

      km preflight section_7_6_rl_performance --scenario traffic_light_control
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.sections.project import find_project, get_section
    from kaggle_manager.sessions.connection import limits_of
    from kaggle_manager.sessions.known_before import lacking_imports
    from kaggle_manager.sessions.preflight import (
        inputs_of,
        known_failures,
        missing_packages,
        remember_passed,
        shown,
    )

    project = find_project(Path.cwd(), section)
    loaded = get_section(project, section)
    names = scenario or list(loaded.scenarios)
    configs = [  # an unknown one lists those there are
        build_config(section, scenario=name, platform=platform, workdir=workdir, project_root=project) for name in names
    ]
    loaded, limits = (configs[0].section, limits_of(configs[0])) if configs else (loaded, None)
    known = known_failures(project, loaded, names)
    if not known and (missing := missing_packages(loaded, project)):
        for text in dict.fromkeys(text for each in configs for text in lacking_imports(project, loaded, each.scenario)):
            print(f"WARNING: {text}", file=sys.stderr)
        raise ConfigError(
            f"Names and files are right; to try {section}, a preflight needs {', '.join(missing)}, which this machine "
            "does not have.",
            safe="nothing was started; a kernel installs them for its session",
            next_step=how_to_install(missing, loaded.kernel.packages),
        )
    inputs = {} if known else inputs_of(*configs)
    with reporter(as_json) as told:
        result = shown(told, project, loaded, names, inputs=inputs, limits=limits, thorough=thorough)
    if result["ok"]:
        for config in configs:
            remember_passed(config, result["checks"])
    if as_json:
        print_json(result)
    if not result["ok"]:
        again = WhichTree(loaded.name).command("preflight")
        print(f"Next: correct what FAILED, and try: {again}", file=sys.stderr)
        raise typer.Exit(VerificationError.exit_code)
