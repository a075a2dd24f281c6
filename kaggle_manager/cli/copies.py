"""`checkpoints backup|prune`: the copies this machine keeps of a training tree."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import JsonOption, answer
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.cli.table import copies_table
from kaggle_manager.system.formatting import count, size


@as_command
def backup(
    reason: Annotated[str, typer.Option(help="A note on why, for later.")] = "made by hand",
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Back the checkpoints up now, verified byte by byte.

    `restore --from latest` puts the newest backup back; `checkpoints ls` lists all copies.

    Examples:

      km checkpoints backup

      km checkpoints backup --reason "before the new reward"
    """
    from kaggle_manager.orchestrator.command import attended
    from kaggle_manager.trees.backups import back_up, within_limit

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


@as_command
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be freed.")] = False,
    keep: Annotated[int, typer.Option(help="Number of the newest copies that stay.")] = 1,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only copies of this kind, as `checkpoints ls` shows it; repeatable.")
    ] = None,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Delete kept copies that are no longer needed.

    The checkpoints of the training, and the newest copy that verifies, are never touched.

    Examples:

      km checkpoints prune

      km checkpoints prune --kind download --kind replaced --yes
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
