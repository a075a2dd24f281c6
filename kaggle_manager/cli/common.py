"""What every command of the command line shares: its options, its errors, its JSON and its help.

Data goes to stdout; with `--json` everything else goes to stderr. Every error of the tree in `errors.py` becomes its
message and its exit code; a traceback is shown only for a defect of this program.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

from kaggle_manager.cli.extras import how_to_install
from kaggle_manager.errors import ConfigError, Interrupted, KaggleManagerError, StorageError
from kaggle_manager.status.report import error_as_json

if TYPE_CHECKING:
    from kaggle_manager.console.reporter import Reporter

# Longer than the one line that `--help` has for a command, which is never cut: a test holds its length.
_UNCUT = 1_000


class Command(TyperCommand):
    """A command: its usage line has what must be given bare, and what may be left out in brackets."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options with what they are; an argument by its name alone, where Typer adds `<str>`."""
        rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for each in self.get_params(ctx):
            if record := each.get_help_record(ctx):
                rows[each.param_type_name].append((record[0].split(" <")[0], record[1]))
        for kind, title in (("argument", "Arguments"), ("option", "Options")):
            if rows[kind]:
                with formatter.section(title):
                    formatter.write_dl(rows[kind])


class Program(typer.Typer):
    """What commands are registered with, each as a `Command`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        return super().command(name, **{"cls": Command, **settings})


class Commands(TyperGroup):
    """A group of commands: its help lists them by panel, one uncut line each, and is shown when none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise typer.Exit
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # while a command imports its modules
            raise interrupted() from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).append((name, command.get_short_help_str(limit=_UNCUT)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def group(name: str, help: str) -> Program:
    """A group of commands."""
    return Program(name=name, cls=Commands, rich_markup_mode=None, help=help)


def sections_here() -> list[str]:
    """The sections of the project here; none where there is no project."""
    from kaggle_manager.sections.project import find_project_or_none, find_sections, offered_sections

    try:
        project = find_project_or_none(Path.cwd())
        return [] if project is None else offered_sections(project) or list(find_sections(project))
    except ConfigError:
        return []


def the_only_section() -> str:
    """The section that is meant when none is named.

    Raises:
        ConfigError: there is no project here, or it has no section or several.
    """
    from kaggle_manager.sections.project import find_project, get_section

    names = sections_here()
    return names[0] if len(names) == 1 else get_section(find_project(Path.cwd()), "").name


def complete_section(incomplete: str) -> list[str]:
    """For the shell: the sections that can be meant."""
    return sections_here()


_ONLY = "the project's only one"
_SECTION = "Section to work on, such as my_robot."
# `as_command` makes it a `NamedSection` where another argument must follow.
SectionArgument = Annotated[str, typer.Argument(show_default=_ONLY, autocompletion=complete_section, help=_SECTION)]
NamedSection = Annotated[str, typer.Argument(autocompletion=complete_section, help=_SECTION)]
# For a command that works without one, too.
AnySection = Annotated[
    str | None, typer.Argument(autocompletion=complete_section, help="Section; all of them when absent.")
]
ScenarioOption = Annotated[
    str | None, typer.Option("--scenario", help="Scenario; the section's default when absent. [env var: KM_SCENARIO]")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="The quick run instead of the full one.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Load checkpoints that were made elsewhere: their pickles can run any code.")
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Continue although the environment or the reward was changed; the checkpoints record it.",
    ),
]
QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota-per-week",
        help="Session time allowed per week, e.g. 20h: over all runs of this state folder on the same kind of machine. "
        "[env var: KM_QUOTA_PER_WEEK]",
    ),
]
WorkdirOption = Annotated[
    Path | None,
    typer.Option(
        "--workdir",
        help="Folder with the state and training trees of the runs; default: the project.",
        envvar="KM_WORKDIR",
    ),
]
PlatformOption = Annotated[
    str | None,
    typer.Option(
        "--platform",
        help="auto, local, kaggle, slurm, or MODULE:CLASS for your own. auto: where the run is; for a new one Kaggle "
        "if there are credentials, else local. [env var: KM_PLATFORM]",
    ),
]
TimestepsOption = Annotated[
    int | None, typer.Option("--timesteps", help="Total timesteps, over all sessions. [env var: KM_TIMESTEPS]")
]
LimitOption = Annotated[
    str | None,
    typer.Option(
        "--session-limit", help="Longest session, e.g. 60s, 90m, 11h30m. [env var: KM_SESSION_LIMIT; default: 12h]"
    ),
]
SessionOption = Annotated[
    int | None, typer.Option("--session", help="Number of the session; the newest when absent.", min=1)
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Another training seed, trained in its own directory.", min=0)
]
SeedsOption = Annotated[
    int | None,
    typer.Option("--seeds", help="Train N seeds as one campaign, each in its own directory.", min=1),
]
MaxSessionsOption = Annotated[
    int | None,
    typer.Option("--max-sessions", help="Sessions at a time; as many as the platform allows when absent.", min=1),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and everything else on stderr.")]


@contextlib.contextmanager
def errors_as_messages(*, as_json: bool = False) -> Iterator[None]:
    """Turn what this project raises, and a folder or file that this machine refuses, into a message and an exit code.

    The message is on stderr, and as JSON on stdout when asked.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has closed its end
        raise
    except (KaggleManagerError, OSError) as raised:
        error = raised if isinstance(raised, KaggleManagerError) else _refused(raised)
        raise typer.Exit(say_error(error, as_json=as_json)) from raised
    except KeyboardInterrupt as error:
        raise interrupted() from error


def say_error(error: KaggleManagerError, *, as_json: bool) -> int:
    """Show an error as everything here shows one; its exit code."""
    if as_json:
        print(error_as_json(error))
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _refused(error: OSError) -> StorageError:
    return StorageError(
        f"Disk error: {error}.",
        safe="everything that was saved before",
        next_step="free disk space, fix the permissions or name another folder, then run the same command again",
    )


def interrupted() -> typer.Exit:
    """Say that Ctrl-C was pressed; how the command ends then."""
    print("interrupted", file=sys.stderr)
    return typer.Exit(Interrupted.exit_code)


def print_json(data: dict[str, Any]) -> None:
    """The one document of a command with `--json`."""
    print(json.dumps(data, indent=2))


def answer(document: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """What a command found: as its document, else as lines."""
    if as_json:
        print_json(document)
    else:
        for line in lines:
            print(line)


def reporter(as_json: bool) -> Reporter:
    """Where a command shows its progress: beside the data."""
    from kaggle_manager.console.reporter import Reporter

    return Reporter(sys.stderr if as_json else sys.stdout)


def load_module(name: str, *, needed_for: str) -> ModuleType:
    """A module that the core installation may lack, or lack the libraries of.

    Raises:
        ConfigError: a library is not here.
    """
    with libraries_needed_for(needed_for):
        return importlib.import_module(name)


@contextlib.contextmanager
def libraries_needed_for(purpose: str) -> Iterator[None]:
    """Turn a library that is not installed into a `ConfigError` that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{purpose[0].upper()}{purpose[1:]} needs {error.name}, which is not installed.",
            safe="nothing was started or changed",
            next_step=how_to_install([error.name or "it"]),
        ) from error
