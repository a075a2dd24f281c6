"""`checkpoints backup|prune`: the copies this machine keeps of a training tree."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import (
    JsonOption,
    QuickOption,
    ScenarioOption,
    SectionOption,
    WorkdirOption,
    errors_as_messages,
    print_json,
    restored_as_json,
)
from kaggle_manager.cli.quick import quick_may_be_meant
from kaggle_manager.cli.table import copies_table
from kaggle_manager.console.formatting import count, quoted, size
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import NotFound

backup = typer.Typer(rich_markup_mode=None, help="Back the training tree up now; or list and restore backups.")


@backup.callback()
def make(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for whoever finds it.")] = "made by hand",
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the training tree, verified byte by byte, beside the other kept copies.

    Examples:

      kaggle-manager checkpoints backup --reason "before the new reward"

      kaggle-manager checkpoints backup ls

      kaggle-manager checkpoints backup restore latest
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.orchestrator.command import attended
    from kaggle_manager.trees.backups import back_up, within_limit

    if context.invoked_subcommand is not None:
        sources = [context.get_parameter_source(name) for name in context.params]
        if any(source and source.name == "COMMANDLINE" for source in sources):
            raise typer.BadParameter(f"options are written after {context.invoked_subcommand}, not before it")
        return
    with errors_as_messages(as_json=as_json):
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        with quick_may_be_meant(config), attended(config):
            copy = back_up(config, reason)
            dropped = within_limit(config)
        for line in dropped:
            print(line, file=sys.stderr)
        if as_json:
            print_json({"schema": 1, "backup": _as_json(copy), "dropped": dropped})
            return
        print(f"step {copy.step:,} of session {copy.generation} is backed up in {copy.folder} ({size(copy.size)})")
        print(f"  back again: kaggle-manager restore {config.section.name} {config.flags} --from {quoted(copy.folder)}")


@backup.command("ls")
def list_backups(
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List every copy that can be restored, newest first.

    Example:

      kaggle-manager checkpoints backup ls
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.trees.backups import find_copies, latest_backup

    with errors_as_messages(as_json=as_json):
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        copies = [copy for copy in find_copies(config) if copy.step is not None]
        if as_json:
            print_json({"schema": 1, "copies": [_as_json(copy) for copy in copies]})
            return
        if not copies:
            print("no copy is kept")
            return
        print("\n".join(copies_table(copies)))
        if (latest := latest_backup(copies)) is not None:
            print(f"`latest` is the newest backup: step {latest.step:,} in {latest.folder}")
        print(f"restore one: kaggle-manager restore {config.section.name} {config.flags} --from FOLDER")


@backup.command("restore")
def restore_backup(
    which: Annotated[
        str, typer.Argument(help="Folder or its name, as `backup ls` shows it; `latest`: the newest backup.")
    ],
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a copy in the place of the training tree; what is there is archived first.

    Example:

      kaggle-manager checkpoints backup restore latest
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager
    from kaggle_manager.trees.backups import find_copies, latest_backup

    with errors_as_messages(as_json=as_json), Reporter(sys.stderr if as_json else sys.stdout) as reporter:
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        copies = [copy for copy in find_copies(config) if copy.step is not None]
        named = (copy for copy in copies if which in (copy.folder.name, str(copy.folder)))
        wanted = next(named, latest_backup(copies) if which == "latest" else None)
        if wanted is None and not Path(which).is_dir():
            there = f"--section {section} {config.flags}"
            raise NotFound(f"No copy is called {which!r}.", next_step=f"kaggle-manager checkpoints backup ls {there}")
        manager = ValidationKaggleManager(workdir=workdir, project_root=config.project_root, reporter=reporter)
        source = wanted.folder if wanted else Path(which)
        done = manager.restore_copy(section, source, scenario=scenario, quick=quick)
    if as_json:
        print_json(restored_as_json(config.tree, done))


def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would be freed.")] = False,
    keep: Annotated[int, typer.Option(help="Newest copies that stay.")] = 1,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only copies of this kind; may be given again. See `checkpoints ls`.")
    ] = None,
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free the room of kept copies. The training tree, and the newest copy that verifies, are never touched.

    Examples:

      kaggle-manager checkpoints prune

      kaggle-manager checkpoints prune --kind download --kind replaced --yes
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.orchestrator.command import attended
    from kaggle_manager.trees.backups import check_kinds, find_copies, free, newest_valid, plan_prune

    with errors_as_messages(as_json=as_json):
        kinds = check_kinds(kind)
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        with attended(config) if yes else nullcontext():
            copies = find_copies(config)
            newest = newest_valid(copies, config.scenario_name)
            planned = plan_prune(copies, newest, keep=keep, kinds=kinds)
            freed = free(planned) if yes else 0
        total = sum(copy.size for copy in planned)
        if as_json:
            print_json(
                {"schema": 1, "dry_run": not yes, "bytes": total, "freed": freed, "copies": [*map(_as_json, planned)]}
            )
            return
        if not planned:
            print("nothing to free")
            return
        print("\n".join(copies_table(planned)))
        what = f"{count(len(planned), 'copy', 'copies')}, {size(total)}"
        print(f"freed {what}" if yes else f"would free {what}; nothing was touched. Add --yes to do it.")


def _as_json(copy: Any) -> dict[str, Any]:
    return {**asdict(copy), "folder": str(copy.folder)}
