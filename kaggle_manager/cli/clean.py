"""`clean`: delete on the platform what runs that are over have left there."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_manager.cli.common import JsonOption, WorkdirOption, print_json
from kaggle_manager.cli.selection import as_command
from kaggle_manager.cli.table import table
from kaggle_manager.errors import ConfigError, RemoteError
from kaggle_manager.system.command_line import command
from kaggle_manager.system.formatting import count, duration, iso, size

if TYPE_CHECKING:
    from kaggle_manager.orchestrator.clean import Leftover


@as_command
def clean(
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete what is listed as `delete`, and empty what is listed as `empty`.")
    ] = False,
    platform: Annotated[
        str | None, typer.Option("--platform", help="Only what runs left on this one; all of them when absent.")
    ] = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what finished runs left on a platform; --yes deletes.

    With --yes, deletes what finished or abandoned runs left, once their results are on this machine, and the empty
    kernels that refused pushes left. A run is abandoned when a fresh start replaces it, or, with --yes, when its
    section is no longer in the project. Wheels that no run installs from are emptied, and keep their name for the next
    one. What an unfinished run needs stays, and so does anything that this folder's journal does not know. What stays
    is listed with the reason. Ends with 6 when something could not be deleted.

    Examples:

      km clean

      km clean --yes
    """
    from kaggle_manager.config import PLATFORMS, state_folder, workdir_of
    from kaggle_manager.console.reporter import Reporter
    from kaggle_manager.orchestrator.clean import clean as cleaned
    from kaggle_manager.runs.journal import Journal
    from kaggle_manager.sessions.connection import reach

    if platform not in (None, *PLATFORMS) and ":" not in str(platform):
        raise ConfigError(f"platform = {platform!r} is not known.", next_step=f"give one of: {', '.join(PLATFORMS)}")
    named = {platform} - {None, "auto"}
    state, found = state_folder(workdir), []
    file = state / "journal.sqlite"
    with closing(Journal(file) if yes and file.exists() else Journal.to_read(file)) as journal:
        asked = {(run.platform, run.section) for run in journal.runs() if not named or run.platform in named}
        connections = [reach(each, state, options=options, is_known=True) for each, options in _places(asked)]
        for connection in connections:
            with closing(connection.client):
                for leftover in cleaned(connection, journal, time.time(), delete=yes, reporter=Reporter(sys.stderr)):
                    found.append(leftover)
                    if yes and not as_json and leftover.action != "keep":
                        print(f"{leftover.action}: {leftover.thing.kind} {leftover.name}", flush=True)
    if as_json:
        print_json({"schema": 1, "things": [_as_json(each) for each in found]})
    else:
        again = command("clean", "--yes", *(["--workdir", workdir_of(state)] if workdir_of(state) else []))
        print("\n".join(_lines(found, again)))
    if any(each.action == "refused" for each in found):
        raise typer.Exit(RemoteError.exit_code)


def _as_json(leftover: Leftover) -> dict[str, Any]:
    thing = leftover.thing
    return {
        "platform": leftover.platform,
        "kind": thing.kind,
        "name": leftover.name,
        "action": leftover.action,
        "why": leftover.why,
        "run_id": leftover.run_id,
        "bytes": thing.size,
        "changed_at": None if thing.changed_at is None else iso(thing.changed_at),
    }


def _places(asked: Collection[tuple[str, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The platforms of (platform, section), each as often as its sections have different options, such as clusters."""
    for platform in sorted({platform for platform, _ in asked}):
        found: list[Mapping[str, Any]] = []
        for section in sorted(section for each, section in asked if each == platform):
            options = _options_of(platform, section)
            if options is not None and options not in found:
                found.append(options)
        yield from ((platform, options) for options in found or [{}])


def _options_of(platform: str, section: str) -> Mapping[str, Any] | None:
    """What a section says of its platform; None where it is not in the project any more."""
    from kaggle_manager.config import KAGGLES
    from kaggle_manager.sections.project import find_project_or_none, get_section

    project = None if platform in KAGGLES else find_project_or_none(Path.cwd(), section)
    try:
        return None if project is None else get_section(project, section).platform.get(platform, {})
    except ConfigError:
        return None


def _lines(found: Iterable[Leftover], again: str) -> Iterator[str]:
    things = list(found)
    if not things:
        yield "Nothing is there that runs of this folder have left."
        return
    now = time.time()
    rows = [["", "kind", "name", "size", "changed ago", "why"]]
    for each in things:
        thing = each.thing
        room = "-" if thing.size is None else size(thing.size)
        ago = "-" if thing.changed_at is None else duration(now - thing.changed_at)
        rows.append([each.action, f"{thing.kind} on {each.platform}", each.name, room, ago, each.why])
    yield from table(rows)
    if deletable := sum(each.action in ("delete", "empty") for each in things):
        yield f"{count(deletable, 'thing')} can be deleted or emptied, which cannot be undone: {again}"
