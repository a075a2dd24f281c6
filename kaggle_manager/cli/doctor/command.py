"""`doctor`: everything a run depends on, looked at before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from kaggle_manager.cli.common import JsonOption, PlatformOption, WorkdirOption, complete_section, print_json
from kaggle_manager.cli.selection import as_command

MARKS = {"ok": "ok     ", "unknown": "UNKNOWN", "caution": "CAUTION", "problem": "PROBLEM"}


@as_command
def doctor(
    section: Annotated[
        str,
        typer.Argument(
            show_default="the project's only one", autocompletion=complete_section, help="Section a run would train."
        ),
    ] = "",
    kaggle: Annotated[
        bool,
        typer.Option(
            "--kaggle",
            help="Check the assumptions about Kaggle, too; a small private dataset is made and deleted again.",
        ),
    ] = False,
    platform: PlatformOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check credentials, network, disk and packages.

    It says how to fix what is missing. Each check is ok, UNKNOWN (it cannot be seen from here), a CAUTION or a PROBLEM.
    Works offline, and without a project as far as possible. Ends with 0 when there is no problem, else with the code of
    the first one: 1 folders and disk, 2 configuration, 3 secrets and clock, 4 credentials.

    With --kaggle each assumption about Kaggle is `seen`, `not seen` or `unknown`, with what this program does if it is
    wrong; that costs no quota, and takes a minute or two. Ends with 6 when Kaggle cannot be reached.

    Examples:

      km doctor

      km doctor section_7_6_rl_performance --json

      km doctor --platform slurm

      km doctor --kaggle
    """
    from kaggle_manager.cli.doctor.check import counted, worst
    from kaggle_manager.cli.doctor.examine import ask_kaggle, examine, exit_code

    checks = examine(section, platform=platform, workdir=workdir)
    if not as_json:
        for check in checks:
            print(f"{MARKS[check.state]} {check.name}: {check.says}")
            if check.todo:
                print(f"        -> {check.todo}")
        print(counted(checks))
    code = exit_code(checks)
    asked = []
    for each in ask_kaggle() if kaggle else ():
        asked.append(each.as_dict())
        if not as_json:
            print(f"{each.found.upper():<8} {each.assumption}: {each.evidence}", flush=True)
            print(f"         if wrong: {each.if_wrong}")
    if as_json:
        found = [check.as_dict() for check in checks]
        print_json({"schema": 1, "state": worst(checks), "checks": found, "assumptions": asked})
    if code:
        raise typer.Exit(code)
