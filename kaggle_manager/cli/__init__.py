"""`kaggle-manager` (short `km`): the command line. One module a group of commands; `common` is what they share."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import typer

from kaggle_manager import __version__
from kaggle_manager.cli.checkpoints import checkpoints
from kaggle_manager.cli.copies import backup, prune
from kaggle_manager.cli.dashboard import dashboard
from kaggle_manager.cli.doctor import doctor
from kaggle_manager.cli.exchange import export_sb3, import_sb3
from kaggle_manager.cli.export import export, restore
from kaggle_manager.cli.init import init
from kaggle_manager.cli.local_kaggle import local_kaggle
from kaggle_manager.cli.notify import notify
from kaggle_manager.cli.preflight import preflight
from kaggle_manager.cli.report import PASSED_ON, report, selftest
from kaggle_manager.cli.run import attach, fetch, run, stop, tick
from kaggle_manager.cli.schedule import schedule
from kaggle_manager.cli.state import history, logs, plan, status

app = typer.Typer(
    name="kaggle-manager",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train a Stable-Baselines3 agent to N timesteps over any number of Kaggle sessions, with nothing lost.",
)
app.command()(run)
app.command()(tick)
app.command()(status)
app.command()(history)
app.command()(plan)
app.command()(logs)
app.command()(stop)
app.command()(fetch)
app.command()(attach)
app.command(context_settings=PASSED_ON)(report)
app.command()(restore)
app.command()(export)
app.command()(schedule)
app.command()(dashboard)
app.command()(doctor)
app.command()(init)
app.command()(preflight)
checkpoints.add_typer(backup, name="backup", invoke_without_command=True)
checkpoints.command()(prune)
checkpoints.command("export-sb3")(export_sb3)
checkpoints.command("import-sb3")(import_sb3)
app.add_typer(checkpoints, name="checkpoints")
app.add_typer(selftest, name="selftest")
app.add_typer(local_kaggle, name="local-kaggle")
app.add_typer(notify, name="notify")


@app.command()
def version() -> None:
    """Print the version.

    Example:

      kaggle-manager version
    """
    print(__version__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console scripts; exits with the code of the command."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows console must not turn a character of a log into an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app(args=list(arguments) if arguments is not None else None)
