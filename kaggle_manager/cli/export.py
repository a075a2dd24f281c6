"""`export` of a training tree to a folder or a cloud, and `restore` of an export or of a kept copy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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
from kaggle_manager.cli.selection import TreeOfArgument, as_command
from kaggle_manager.console.formatting import count, size
from kaggle_manager.system.command_line import WhichTree


@as_command
def export(
    url: Annotated[str, typer.Argument(help="A folder, or s3://, gs://, az://, hf://; one for each run.")],
    report: Annotated[bool, typer.Option("--report", help="The section's report as well.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read back what was sent before, and send again what is damaged.")
    ] = False,
    *,
    of: TreeOfArgument,
    as_json: JsonOption = False,
) -> None:
    """Send a training tree elsewhere: only what is not there yet, each file read back and hashed there.

    Credentials are read from where each store's own tools look for them. `restore --from URL` brings the run back.

    Examples:

      kaggle-manager export section_7_6_rl_performance s3://bucket/traffic --report

      kaggle-manager export section_7_6_rl_performance /mnt/usb/traffic --dry-run
    """
    from kaggle_manager.trees.export import export_run

    with reporter(as_json) as shown:
        config = of.config()
        with another_tree_may_be_meant(of):
            done = export_run(config, url, report=report, recheck=recheck, dry_run=dry_run, tell=shown.status)
        for line in done.left_out:
            shown.warn(f"left out, for it does not verify: {line}")
    sent = "would be sent" if dry_run else "sent and read back"
    lines = [
        f"step {done.step:,} of run {done.run_id}, {count(done.files, 'file')}: {done.url}",
        f"  {count(done.sent_files, 'file')} {sent} ({size(done.sent_bytes)})",
        f"  {count(done.skipped_files, 'file')} there already ({size(done.skipped_bytes)})",
    ]
    if done.report_url:
        lines.append(f"  the report: {done.report_url}")
    anywhere = WhichTree(of.section, config.scenario_name, config.seed, of.quick)
    lines.append(f"  back again, on any machine: {anywhere.command('restore', '--from', done.url)}")
    answer({"schema": 1, **asdict(done)}, lines, as_json=as_json)


@as_command
def restore(
    source: Annotated[str, typer.Option("--from", help="A kept copy's folder, or the address of an export.")],
    trust: TrustOption = False,
    accept_changes: AcceptOption = False,
    *,
    of: TreeOfArgument,
    as_json: JsonOption = False,
) -> None:
    """Put a kept copy or an export in the place of the training tree; what is there is archived first.

    A tree that was made elsewhere comes back as data: `run` continues it only with --trust, given here or there.

    Examples:

      kaggle-manager restore section_7_6_rl_performance --from .kaggle_manager/archive/<tree>

      kaggle-manager restore section_7_6_rl_performance --from s3://bucket/traffic
    """
    from kaggle_manager.checkpoints import RestoreReport
    from kaggle_manager.trees.export import is_export, restore_export

    with reporter(as_json) as shown:
        config = of.config(trust=trust, accept_changes=accept_changes)

        def put_back(folder: Path) -> RestoreReport:
            return of.manager(shown).restore_copy(config, folder)

        from_export = is_export(source)
        done = restore_export(config, source, put_back, shown.status) if from_export else put_back(Path(source))
    if as_json:
        print_json(restored_as_json(config.tree, done))
