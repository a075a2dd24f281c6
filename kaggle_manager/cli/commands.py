"""Every command of `kaggle-manager`, put together in its panel of `--help`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, cast

import typer

from kaggle_manager import __version__
from kaggle_manager.cli.checkpoints import checkpoints
from kaggle_manager.cli.clean import clean
from kaggle_manager.cli.common import Commands, Program, say_error
from kaggle_manager.cli.copies import backup, prune
from kaggle_manager.cli.dashboard import dashboard
from kaggle_manager.cli.doctor.command import doctor
from kaggle_manager.cli.exchange import export_sb3, import_sb3
from kaggle_manager.cli.export import export, restore
from kaggle_manager.cli.init import init
from kaggle_manager.cli.local_kaggle import local_kaggle
from kaggle_manager.cli.notify import notify
from kaggle_manager.cli.preflight import preflight
from kaggle_manager.cli.publish import publish
from kaggle_manager.cli.report import PASSED_ON, report, selftest
from kaggle_manager.cli.run import adopt, download, run, stop, tick
from kaggle_manager.cli.schedule.command import schedule
from kaggle_manager.cli.state import forecast, history, logs, status
from kaggle_manager.cli.sweep import sweep
from kaggle_manager.cli.track import track
from kaggle_manager.errors import ConfigError
from kaggle_manager.system.command_line import PROGRAM

# What Typer raises about a line that is not a command; this base of all of it has no public name.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
# What `--help` lists under each title, in its order.
PANELS: Mapping[str, Sequence[Callable[..., None] | typer.Typer]] = {
    "Everyday": (init, run, status, logs, forecast, history, stop, dashboard, report, track, publish, sweep),
    "Checkpoints": (export, restore, checkpoints),
    "Platforms": (download, adopt, clean, local_kaggle),
    "Tools": (doctor, preflight, tick, schedule, notify, selftest),
}

app = Program(
    name="kaggle-manager",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for panel, offered in PANELS.items():
    for each in offered:
        if isinstance(each, typer.Typer):
            app.add_typer(each, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel, context_settings=PASSED_ON if each is report else None)(each)
for each in (backup, prune):
    checkpoints.command()(each)
checkpoints.command("export-sb3")(export_sb3)
checkpoints.command("import-sb3")(import_sb3)


def _print_version(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        print(__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train a Stable-Baselines3 agent to N timesteps over any number of sessions, with nothing lost."""


def call(arguments: Sequence[str] | None = None) -> int:
    """Run one line; its exit code. A line that cannot be parsed is an error like any other."""
    for stream in (sys.stdout, sys.stderr):
        # On a Windows console a character of a log must not become an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return int(app(args=words, standalone_mode=False) or 0)
    except UsageError as refused:
        command = refused.ctx.command_path if refused.ctx else PROGRAM
        # Typer reads values through pydantic, whose words these are.
        message = refused.format_message().replace("Value error, ", "")
        error = ConfigError(message, safe="nothing was started", next_step=f"{command} --help")
        return say_error(error, as_json="--json" in words)
