"""What every command of the command line shares: its options, its errors and its JSON.

Data goes to stdout; with `--json` everything else goes to stderr. Every error of the tree in `errors.py` becomes its
message and its exit code; a traceback is shown only for a defect of this program.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_manager.cli.extras import how_to_install
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, Interrupted, KaggleManagerError, StorageError
from kaggle_manager.sections.project import find_project, find_sections, offered_sections
from kaggle_manager.status.report import error_as_json

if TYPE_CHECKING:
    from kaggle_manager.checkpoints import RestoreReport


def the_only_section() -> str:
    """The section that is meant when none is named: the only one of the project here; '' when there are several."""
    try:
        project = find_project(Path.cwd())
        names = offered_sections(project) or list(find_sections(project))
    except ConfigError:  # the command itself will say so
        return ""
    return names[0] if len(names) == 1 else ""


SectionArgument = Annotated[str, typer.Argument(help="Section, e.g. section_7_6_rl_performance.")]
SectionOption = Annotated[
    str,
    typer.Option(
        "--section",
        default_factory=the_only_section,
        show_default="the project's only one",
        help="Section whose training it is.",
    ),
]
ScenarioOption = Annotated[str | None, typer.Option("--scenario", help="Scenario; the section's default when absent.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="The quick run's tree, not the production one.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open a tree that was made elsewhere: whatever its pickles say is run.")
]
AcceptOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Go on though the environment or the reward was changed; the checkpoints say so."
    ),
]
QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota-per-week",
        help="Most session time in a week, over all runs of this state folder on machines of the same kind: 20h.",
    ),
]
WorkdirOption = Annotated[
    Path | None,
    typer.Option("--workdir", help="Everything the run writes goes below this folder.", envvar="KM_WORKDIR"),
]
PlatformOption = Annotated[
    str | None,
    typer.Option(
        "--platform",
        help="auto (where its run is; for a new one Kaggle when credentials are there), local, kaggle, slurm, or "
        "MODULE:CLASS for a platform of your own.",
    ),
]
TimestepsOption = Annotated[int | None, typer.Option("--timesteps", help="Timesteps in all, over every session.")]
LimitOption = Annotated[
    str | None, typer.Option("--session-limit", help="Longest session: 60s, 90m, 11h30m. [default: 12h]")
]
SessionOption = Annotated[
    int | None, typer.Option("--session", help="Number of the session; the newest when absent.", min=1)
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Another training seed, in a tree of its own.", min=0)]
SeedsOption = Annotated[
    int | None,
    typer.Option("--seeds", help="Number of training seeds to train as one campaign, each with its own tree.", min=1),
]
MaxSessionsOption = Annotated[
    int | None,
    typer.Option("--max-sessions", help="Sessions at once; as many as the platform has room for when absent.", min=1),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Data as JSON on stdout, everything else on stderr.")]


def group(help: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help)


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
        if as_json:
            print(error_as_json(error))
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from raised
    except KeyboardInterrupt as error:
        raise interrupted() from error


def _refused(error: OSError) -> StorageError:
    return StorageError(
        f"This machine refused: {error}.",
        safe="everything that was saved before",
        next_step="give back the permission or the room, or name another folder, and run the same command again",
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
            f"{purpose[0].upper()}{purpose[1:]} needs {error.name}, which is not here.",
            next_step=how_to_install([error.name or "it"]),
        ) from error


def restored_as_json(tree: Path, done: RestoreReport) -> dict[str, Any]:
    """What was put in the place of a training tree."""
    return {
        "schema": 1,
        "tree": str(tree),
        "step": done.step,
        "generation": done.generation,
        "manifest_sha256": done.manifest_sha256,
        "files": len(done.files),
        "left_out": list(done.left_out),
    }
