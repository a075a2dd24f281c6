"""`checkpoints ls|show|verify|diff`: looking at the checkpoints of a training tree. The tree is only read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import JsonOption, answer, complete_section, group, the_only_section
from kaggle_manager.cli.other_trees import another_tree_may_be_meant, hint
from kaggle_manager.cli.selection import TreeOf, as_command
from kaggle_manager.cli.table import age, copies_table, table
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.system.formatting import size

checkpoints = group("checkpoints", "List, check, compare, back up and convert checkpoints.")


@dataclass(frozen=True)
class TreeOrFolder(TreeOf):
    """The training tree of a section, where no folder is named."""

    section: Annotated[
        str, typer.Argument(autocompletion=complete_section, help="Section; not needed with --folder.")
    ] = ""


@checkpoints.command()
@as_command
def ls(
    verify: Annotated[bool, typer.Option(help="Read and hash every file; else only the manifests are read.")] = True,
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """List checkpoints, and the copies this machine keeps.

    `restore --from` puts one of the copies back.

    Examples:

      km checkpoints ls

      km checkpoints ls section_7_6_rl_performance --quick --no-verify --json
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.trees.backups import find_copies, latest_backup
    from kaggle_manager.trees.inspect import best_of, look_at, worst_state

    config = of.config()
    views = look_at(TrainingTree(config.tree, config.scenario_name), verify=verify)
    copies = find_copies(config)
    states = [worst_state(look_at(TrainingTree(copy.folder, config.scenario_name), verify=verify)) for copy in copies]
    document = {
        "schema": 1,
        "tree": str(config.tree),
        "checkpoints": [_view_as_json(view) for view in views],
        "copies": [
            {**asdict(copy), "folder": str(copy.folder), "hashes": state}
            for copy, state in zip(copies, states, strict=True)
        ],
    }
    rows = [("level", "step", "session", "size", "replay", "saved ago", "hashes")]
    for view in views:
        m = view.manifest
        claims = (f"{m.step:,}", str(m.lineage.generation)) if m else ("?", "?")
        sizes = (size(view.size), size(view.replay_size) if view.replay_size else "-")
        rows.append((view.level, *claims, *sizes, age(m.created_at) if m else "-", view.hash_state))
    lines = [str(config.tree), *_indented(table(rows))]
    if not views:
        lines[1:] = ["; ".join(filter(None, ["  no checkpoint yet", hint(of)]))]
    lines += [f"  ! {view.problem}" for view in views if view.problem]
    has_best = any(view.level == "best" and view.manifest for view in views)
    if has_best and best_of(views, views[0].manifest) is None:
        lines.append("  ! best: of the environment or reward before an accepted change; its score counts no more")
    if copies:
        lines += [f"kept copies ({size(sum(copy.size for copy in copies))})", *_indented(copies_table(copies, states))]
        latest = latest_backup(copies)
        newest = [f"  `latest` is the newest backup: step {latest.step:,} in {latest.folder}"] if latest else []
        lines += [*newest, f"  restore one: {config.command('restore', '--from', 'FOLDER')}"]
    answer(document, lines, as_json=as_json)


@checkpoints.command()
@as_command
def show(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, `latest`, `best` or `final`.")] = "latest",
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Show one checkpoint: lineage, experiment, metrics, files.

    Examples:

      km checkpoints show

      km checkpoints show section_7_6_rl_performance best

      km checkpoints show section_7_6_rl_performance 45000 --json
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.trees.inspect import find_checkpoint

    config = of.config()
    with another_tree_may_be_meant(of):
        view = find_checkpoint(TrainingTree(config.tree, config.scenario_name), which, verify=True)
    described = _view_as_json(view)
    manifest = described["manifest"]
    lines = [f"{view.level} checkpoint of step {manifest['step']:,}, target {manifest['target']:,}: {view.hash_state}"]
    lines += [f"  ! {view.problem}"] if view.problem else []
    lineage = {**manifest["lineage"], "manifest_sha256": described["manifest_sha256"]}
    for title, values in (
        ("lineage", {**lineage, "bundle_sha256": manifest["bundle_sha256"], "saved": manifest["created_at"]}),
        ("experiment", manifest["identity"]),
        ("exactness", {**manifest["exact"], "certificate": manifest["certificate"]}),
        ("metrics", manifest["metrics"]),
    ):
        lines += [title, *_indented(table([(name, _value(value)) for name, value in values.items()]))]
    rows = [(entry["name"], size(entry["size"]), entry["sha256"]) for entry in manifest["files"]]
    for ref in manifest["replay"]["segments"] if manifest["replay"] else ():
        rows.append((f"replay/{ref['name']}", size(ref["length"]), ref["sha256"]))
    answer({"schema": 1, **described}, [*lines, "files", *_indented(table(rows))], as_json=as_json)


@checkpoints.command()
@as_command
def verify(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Verify the checkpoints in this folder, such as a kept copy.")
    ] = None,
    *,
    of: TreeOrFolder,
    as_json: JsonOption = False,
) -> None:
    """Read every byte of the checkpoints and verify it.

    Ends with 3, and names the files, where something does not match its manifest.

    Examples:

      km checkpoints verify

      km checkpoints verify --folder /media/usb/models
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.trees.compare import tree_at
    from kaggle_manager.trees.inspect import verify_tree

    if folder is not None:  # its manifests say of which scenario it is
        tree = tree_at(folder, of.scenario or "any_scenario")
        found = verify_tree(tree)
    else:
        of = replace(of, section=of.section or the_only_section())
        config = of.config()
        tree = TrainingTree(config.tree, config.scenario_name)
        with another_tree_may_be_meant(of):
            found = verify_tree(tree)
    if found.problems:
        raise CheckpointCorrupt(
            f"{tree.root} does not verify:\n  " + "\n  ".join(found.problems),
            safe="nothing was changed",
            next_step="the next run uses the newest checkpoint that verifies; `checkpoints ls`, with the same options, "
            "lists the copies that `restore --from` puts back",
        )
    document = {"schema": 1, "tree": str(tree.root), "files": found.files, "bytes": found.bytes}
    line = f"{tree.root}: {found.files:,} files, {size(found.bytes)}, every byte as its manifest says"
    answer(document, [line], as_json=as_json)


@checkpoints.command()
@as_command
def diff(
    a: Annotated[str, typer.Argument(help="latest, best, final, timesteps, a folder, or the id of a run.")],
    b: Annotated[str, typer.Argument(help="The same, for the other side.")],
    *,
    of: TreeOf,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two checkpoints, folders or runs.

    Example:

      km checkpoints diff section_7_6_rl_performance latest best
    """
    from kaggle_manager.trees.compare import TOPICS, compare_sides, find_side

    config = of.config()
    with another_tree_may_be_meant(of):
        differences = compare_sides(find_side(a, config), find_side(b, config))
    lines = []
    for topic in TOPICS:
        words = [each.words for each in differences if each.topic == topic]
        lines += [f"{topic}:" if words else f"{topic}: the same", *_indented(words)]
    document = {"schema": 1, "a": a, "b": b, "differences": [asdict(each) for each in differences]}
    answer(document, lines, as_json=as_json)


def _view_as_json(view: Any) -> dict[str, Any]:
    manifest = view.manifest
    return {
        "level": view.level,
        "name": view.name,
        "hashes": view.hash_state,
        "problem": view.problem,
        "size": view.size,
        "replay_size": view.replay_size,
        "manifest_sha256": manifest.sha256 if manifest else None,
        "manifest": json.loads(manifest.to_bytes()) if manifest else None,
    }


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
