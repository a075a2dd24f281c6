"""`report` and `selftest`: what a section and the trainer bring as programs of their own."""

from __future__ import annotations

from pathlib import Path

import typer

from kaggle_manager.cli.common import NamedSection, group, libraries_needed_for, load_module
from kaggle_manager.cli.selection import as_command
from kaggle_manager.errors import ConfigError
from kaggle_manager.system.command_line import command, quoted

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
SELFTEST_OPTIONS = """\b
Options of the self-test:
  --algo CASE ...  Algorithms (dqn, sac, td3, ppo, a2c, ...), ALGORITHM-OPTION
                   such as dqn-replay, or all.
                   [default: dqn dqn-replay sac td3 ppo a2c]
  --kills N        Kills of each case; every other one inside a save.
                   [default: 3]
  --seed N         Draws the moments of the kills.  [default: 0]
"""
selftest = group("selftest", "Prove on this machine that resumes are bit-identical.")


@as_command
def report(context: typer.Context, section: NamedSection) -> None:
    """Write a section's report: figures, tables, LaTeX.

    Options are the section's own: `km report SECTION -- --help` lists them. For a section without a report,
    it names the commands that show its results.

    Examples:

      km report section_7_6_rl_performance --lang en

      km report section_7_6_rl_performance --check
    """
    from kaggle_manager.orchestrator.final_report import import_report
    from kaggle_manager.sections.project import find_project, get_section, has_report

    project = find_project(Path.cwd(), section)
    loaded = get_section(project, section)  # an unknown one lists those there are
    if not has_report(project, section):
        shown = {
            command("status", section): "where its runs stand, and their scores",
            command("history", section): "what each session did",
            command("dashboard", "--html", "runs.html"): "curves and sessions, as a page",
            f"tensorboard --logdir {quoted(loaded.folder)}": "every curve of a training",
        }
        raise ConfigError(
            f"The section {section} brings no report of its own: there is no {loaded.folder / 'report/__main__.py'}.",
            safe="nothing was written",
            next_step="look at what every training has:"
            + "".join(f"\n  {line} ({what})" for line, what in shown.items()),
        )
    with libraries_needed_for(f"the report of {section}"):
        module = import_report(project, loaded)
    raise typer.Exit(module.main(context.args))


@selftest.command(context_settings=PASSED_ON, epilog=SELFTEST_OPTIONS)
@as_command
def exactness(context: typer.Context) -> None:
    """Kill trainings at random moments and compare the result.

    A training that was killed again and again must end with the bits of one that was never interrupted.

    Examples:

      km selftest exactness

      km selftest exactness --algo dqn ppo --kills 3
    """
    module = load_module("kaggle_manager.trainer.sb3.selftest", needed_for="the self-test")
    raise typer.Exit(module.main(context.args))
