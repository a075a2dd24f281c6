"""`report` and `selftest`: what a section and the trainer bring as programs of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from kaggle_manager.cli.common import SectionArgument, errors_as_messages, group, run_module
from kaggle_manager.errors import ConfigError
from kaggle_manager.words import quoted

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
selftest = group("Proofs that run on this machine.")


def report(context: typer.Context, section: SectionArgument) -> None:
    """Write a section's report from its run's own data: figures, tables, LaTeX. Options are the section's.

    Examples:

      kaggle-manager report section_7_6_rl_performance --lang en

      kaggle-manager report section_7_6_rl_performance --check
    """
    from kaggle_manager.section import SECTIONS_FOLDER, find_project, get_section

    with errors_as_messages():
        project = find_project(Path.cwd(), section)
        get_section(project, section)  # an unknown one lists those there are
        if not (project / SECTIONS_FOLDER / section / "report" / "__main__.py").is_file():
            raise ConfigError(
                f"Section {section} brings no report of its own.",
                safe="nothing was written",
                next_step=f"look at its curves: tensorboard --logdir {quoted(project / SECTIONS_FOLDER / section)}",
            )
        sys.path.insert(0, str(project))
        module = f"{SECTIONS_FOLDER}.{section}.report.__main__"
        run_module(module, context.args, needed_for=f"the report of {section}")


@selftest.command(context_settings=PASSED_ON)
def exactness(context: typer.Context) -> None:
    """Prove on this machine that a training killed at random moments ends with the bits of one never cut.

    Examples:

      kaggle-manager selftest exactness

      kaggle-manager selftest exactness --algo dqn ppo --kills 3
    """
    with errors_as_messages():
        run_module("kernels.rl_training.selftest", context.args, needed_for="the self-test")
