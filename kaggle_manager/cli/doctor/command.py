"""`doctor`: everything a run depends on, looked at before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, PlatformOption, WorkdirOption, print_json, the_only_section
from kaggle_manager.cli.selection import as_command

MARKS = {"ok": "ok     ", "unknown": "UNKNOWN", "caution": "CAUTION", "problem": "PROBLEM"}


@as_command
def doctor(
    section: Annotated[
        str,
        typer.Argument(
            default_factory=the_only_section,
            show_default="the project's only one",
            help="Section a run would train.",
        ),
    ],
    kaggle: Annotated[
        bool,
        typer.Option(
            "--kaggle",
            help="Ask Kaggle as well whether it is as assumed here; a small private dataset is made and deleted again.",
        ),
    ] = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at everything a run depends on: Python, packages, credentials, Kaggle, quota, disk, secrets, settings.

    Works without a network, and without a project as far as it can. Ends with 0 when there is no problem; else with the
    code of the first: 1 folders and disk, 2 configuration, 3 secrets and clock, 4 credentials. A caution is no problem.

    With --kaggle each assumption about Kaggle is `seen`, `not seen` or `unknown`, with what this program does if it is
    wrong; that costs no quota, and takes a minute or two. Ends with 6 when Kaggle cannot be reached.

    Examples:

      kaggle-manager doctor

      kaggle-manager doctor section_7_6_rl_performance --json

      kaggle-manager doctor --platform slurm

      kaggle-manager doctor --kaggle
    """
    from kaggle_manager.cli.doctor.examine import ask_kaggle, examine, exit_code

    checks = examine(section, platform=platform, workdir=workdir)
    if not as_json:
        for check in checks:
            print(f"{MARKS[check.state]} {check.name}: {check.says}")
            if check.todo:
                print(f"        -> {check.todo}")
    code = exit_code(checks)
    asked = []
    for each in ask_kaggle() if kaggle else ():
        asked.append(each.as_dict())
        if not as_json:
            print(f"{each.found.upper():<8} {each.assumption}: {each.evidence}", flush=True)
            print(f"         if wrong: {each.if_wrong}")
    if as_json:
        document = {"schema": 1, "ok": code == 0, "checks": [check.as_dict() for check in checks], "assumptions": asked}
        print_json(document)
    if code:
        raise typer.Exit(code)
