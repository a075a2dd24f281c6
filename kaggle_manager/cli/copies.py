"""`checkpoints backup|prune`: the copies this machine keeps of a training tree."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import (
    AcceptOption,
    JsonOption,
    TrustOption,
    answer,
    print_json,
    reporter,
    restored_as_json,
)
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOfOption, as_command
from kaggle_manager.cli.table import copies_table
from kaggle_manager.console.formatting import count, size
from kaggle_manager.errors import NotFound

backup = typer.Typer(rich_markup_mode=None, help="Back the training tree up now; or list and restore backups.")


@backup.callback()
@as_command
def make(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, as a note for later.")] = "made by hand",
    *,
    of: TreeOfOption,
    as_json: JsonOption = False,
) -> None:
    """Copy the training tree, verified byte by byte, beside the other kept copies.

    Examples:

      kaggle-manager checkpoints backup --reason "before the new reward"

      kaggle-manager checkpoints backup ls

      kaggle-manager checkpoints backup restore latest
    """
    from kaggle_manager.orchestrator.command import attended
    from kaggle_manager.trees.backups import back_up, within_limit

    if context.invoked_subcommand is not None:
        sources = [context.get_parameter_source(name) for name in context.params]
        if any(source and source.name == "COMMANDLINE" for source in sources):
            raise typer.BadParameter(f"options are written after {context.invoked_subcommand}, not before it")
        return
    config = of.config()
    with another_tree_may_be_meant(of), attended(config):
        copy = back_up(config, reason)
        dropped = within_limit(config)
    for line in dropped:
        print(line, file=sys.stderr)
    lines = [
        f"step {copy.step:,} of session {copy.generation} is backed up in {copy.folder} ({size(copy.size)})",
        f"  back again: {config.command('restore', '--from', copy.folder)}",
    ]
    answer({"schema": 1, "backup": _as_json(copy), "dropped": dropped}, lines, as_json=as_json)


@backup.command("ls")
@as_command
def list_backups(*, of: TreeOfOption, as_json: JsonOption = False) -> None:
    """List every copy that can be restored, newest first.

    Example:

      kaggle-manager checkpoints backup ls
    """
    from kaggle_manager.trees.backups import find_copies, latest_backup

    config = of.config()
    copies = [copy for copy in find_copies(config) if copy.step is not None]
    lines = copies_table(copies)
    if (latest := latest_backup(copies)) is not None:
        lines.append(f"`latest` is the newest backup: step {latest.step:,} in {latest.folder}")
    lines.append(f"restore one: {config.command('restore', '--from', 'FOLDER')}")
    document = {"schema": 1, "copies": [_as_json(copy) for copy in copies]}
    answer(document, lines if copies else ["no copy is kept"], as_json=as_json)


@backup.command("restore")
@as_command
def restore_backup(
    which: Annotated[
        str, typer.Argument(help="Folder or its name, as `backup ls` shows it; `latest`: the newest backup.")
    ],
    trust: TrustOption = False,
    accept_changes: AcceptOption = False,
    *,
    of: TreeOfOption,
    as_json: JsonOption = False,
) -> None:
    """Put a copy in the place of the training tree; what is there is archived first.

    Example:

      kaggle-manager checkpoints backup restore latest
    """
    from kaggle_manager.trees.backups import find_copies, latest_backup

    with reporter(as_json) as shown:
        config = of.config(trust=trust, accept_changes=accept_changes)
        copies = [copy for copy in find_copies(config) if copy.step is not None]
        named = (copy for copy in copies if which in (copy.folder.name, str(copy.folder)))
        wanted = next(named, latest_backup(copies) if which == "latest" else None)
        if wanted is None and not Path(which).is_dir():
            raise NotFound(f"No copy is called {which!r}.", next_step=config.command("checkpoints backup ls"))
        source = wanted.folder if wanted else Path(which)
        done = of.manager(shown).restore_copy(config, source)
    if as_json:
        print_json(restored_as_json(config.tree, done))


@as_command
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would be freed.")] = False,
    keep: Annotated[int, typer.Option(help="Newest copies that stay.")] = 1,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only copies of this kind; may be given again. See `checkpoints ls`.")
    ] = None,
    *,
    of: TreeOfOption,
    as_json: JsonOption = False,
) -> None:
    """Free the room of kept copies. The training tree, and the newest copy that verifies, are never touched.

    Examples:

      kaggle-manager checkpoints prune

      kaggle-manager checkpoints prune --kind download --kind replaced --yes
    """
    from kaggle_manager.orchestrator.command import attended
    from kaggle_manager.trees.backups import check_kinds, find_copies, free, newest_valid, plan_prune

    kinds = check_kinds(kind)
    config = of.config()
    with attended(config) if yes else nullcontext():
        copies = find_copies(config)
        newest = newest_valid(copies, config.scenario_name)
        planned = plan_prune(copies, newest, keep=keep, kinds=kinds)
        freed = free(planned) if yes else 0
    total = sum(copy.size for copy in planned)
    what = f"{count(len(planned), 'copy', 'copies')}, {size(total)}"
    lines = [
        *copies_table(planned),
        f"freed {what}" if yes else f"would free {what}; nothing was touched. Add --yes to do it.",
    ]
    copies_freed = [_as_json(copy) for copy in planned]
    document = {"schema": 1, "dry_run": not yes, "bytes": total, "freed": freed, "copies": copies_freed}
    answer(document, lines if planned else ["nothing to free"], as_json=as_json)


def _as_json(copy: Any) -> dict[str, Any]:
    return {**asdict(copy), "folder": str(copy.folder)}
