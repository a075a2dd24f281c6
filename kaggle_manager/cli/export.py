"""`export` of a training tree to a folder or a cloud, and `restore` of an export or of a kept copy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_manager.cli.common import AcceptOption, JsonOption, TrustOption, answer, print_json, reporter
from kaggle_manager.cli.other_trees import another_tree_may_be_meant
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.errors import NotFound
from kaggle_manager.system.command_line import WhichTree
from kaggle_manager.system.formatting import count, size

if TYPE_CHECKING:
    from kaggle_manager.checkpoints import RestoreReport
    from kaggle_manager.config import RunConfig


@as_command
def export(
    url: Annotated[str, typer.Argument(help="A folder, or s3://, gs://, az://, hf://; one for each run.")],
    report: Annotated[bool, typer.Option("--report", help="Send the section's report as well.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read back what was sent before, and send again what is damaged.")
    ] = False,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Copy checkpoints to a folder or a cloud, verified there.

    Only what is not there yet is sent, and each file is read back and hashed. Credentials are read from where each
    store's own tools look for them. `restore --from URL` brings the run back on any machine.

    Examples:

      km export section_7_6_rl_performance s3://bucket/traffic --report

      km export section_7_6_rl_performance /mnt/usb/traffic --dry-run
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
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="latest (the newest backup), a copy by its name or folder as `checkpoints ls` lists it, or the "
            "address of an export.",
        ),
    ],
    trust: TrustOption = False,
    accept_changes: AcceptOption = False,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Put a backup, a copy or an export back.

    It takes the place of the current checkpoints, which are archived first. Checkpoints that were made elsewhere come
    back as data: `run` continues them only with --trust, given here or there.

    Examples:

      km restore --from latest

      km restore section_7_6_rl_performance --from s3://bucket/traffic
    """
    from kaggle_manager.trees.export import is_export, restore_export

    with reporter(as_json) as shown:
        config = of.config(trust=trust, accept_changes=accept_changes)

        def put_back(folder: Path) -> RestoreReport:
            return of.manager(shown).restore_copy(config, folder)

        copy = _copy_named(source, config)
        if copy is None and is_export(source):
            done = restore_export(config, source, put_back, shown.status)
        else:
            done = put_back(copy or Path(source))
    if as_json:
        print_json(_restored_as_json(config.tree, done))


def _copy_named(name: str, config: RunConfig) -> Path | None:
    """The folder of a kept copy that is called so; None when the name is a folder's or an address.

    Raises:
        NotFound: it is none of all.
    """
    from kaggle_manager.trees.backups import find_copies, latest_backup

    if name != "latest" and ("://" in name or Path(name).is_dir()):
        return None
    copies = [copy for copy in find_copies(config) if copy.step is not None]
    found = latest_backup(copies) if name == "latest" else None
    found = found or next((copy for copy in copies if copy.folder.name == name), None)
    if found is None:
        raise NotFound(
            f"There is no backup and no other copy called {name!r}.",
            safe="nothing was changed",
            next_step=f"choose one that is listed: {config.command('checkpoints ls')}",
        )
    return found.folder


def _restored_as_json(tree: Path, done: RestoreReport) -> dict[str, Any]:
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
