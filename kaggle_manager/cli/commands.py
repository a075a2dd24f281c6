"""Every command of `kaggle-manager`, put together; a line that is none is an error like any other."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any, cast

import typer
from typer.core import TyperGroup

from kaggle_manager import __version__
from kaggle_manager.cli.checkpoints import checkpoints
from kaggle_manager.cli.clean import clean
from kaggle_manager.cli.common import interrupted
from kaggle_manager.cli.copies import backup, prune
from kaggle_manager.cli.dashboard import dashboard
from kaggle_manager.cli.doctor.command import doctor
from kaggle_manager.cli.exchange import export_sb3, import_sb3
from kaggle_manager.cli.export import export, restore
from kaggle_manager.cli.init import init
from kaggle_manager.cli.local_kaggle import local_kaggle
from kaggle_manager.cli.notify import notify
from kaggle_manager.cli.preflight import preflight
from kaggle_manager.cli.report import PASSED_ON, report, selftest
from kaggle_manager.cli.run import adopt, download, run, stop, tick
from kaggle_manager.cli.schedule.command import schedule
from kaggle_manager.cli.state import forecast, history, logs, status
from kaggle_manager.cli.sweep import sweep
from kaggle_manager.errors import ConfigError
from kaggle_manager.status.report import error_as_json

# What Typer raises about a line that is not a command; this base of all of it has no public name.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


class _Commands(TyperGroup):
    """Ctrl-C while a command imports its modules ends in one line as well."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise interrupted() from error


app = typer.Typer(
    name="kaggle-manager",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train a Stable-Baselines3 agent to N timesteps over any number of sessions, with nothing lost.",
)
for command in (run, tick, status, history, forecast, logs, stop, download, adopt):
    app.command()(command)
app.command(context_settings=PASSED_ON)(report)
for command in (sweep, restore, export, clean, schedule, dashboard, doctor, init, preflight):
    app.command()(command)
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


def call(arguments: Sequence[str] | None = None) -> int:
    """Run one line; its exit code. One that is not a command is an error document as well where `--json` is in it."""
    for stream in (sys.stdout, sys.stderr):
        # On a Windows console a character of a log must not become an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return int(app(args=words, standalone_mode=False) or 0)
    except UsageError as error:
        error.message = error.message.removeprefix("Value error, ")  # pydantic's words, through which Typer reads
        error.show()
        if "--json" in words:
            command = error.ctx.command_path if error.ctx else "kaggle-manager"
            told = ConfigError(error.format_message(), safe="nothing was started", next_step=f"{command} --help")
            print(error_as_json(told))
        return error.exit_code
