"""`checkpoints ls|show|verify|diff`: looking at the checkpoints of a training tree. The tree is only read."""

from __future__ import annotations

import json
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
    group,
    print_json,
)
from kaggle_manager.cli.quick import HINT, only_quick_is_here, quick_may_be_meant
from kaggle_manager.cli.table import age, copies_table, table
from kaggle_manager.console.formatting import size
from kaggle_manager.errors import CheckpointCorrupt

checkpoints = group("What to do with checkpoints.")


@checkpoints.command()
def ls(
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    verify: Annotated[bool, typer.Option(help="Read and hash every file; else believe the manifests.")] = True,
    as_json: JsonOption = False,
) -> None:
    """List the checkpoints of a training tree, what is in quarantine, and the copies this machine keeps.

    Examples:

      kaggle-manager checkpoints ls

      kaggle-manager checkpoints ls --quick --no-verify --json
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.config import build_config
    from kaggle_manager.trees.backups import find_copies
    from kaggle_manager.trees.inspect import look_at, worst_state

    with errors_as_messages(as_json=as_json):
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        views = look_at(TrainingTree(config.tree, config.scenario_name), verify=verify)
        copies = find_copies(config)
        trees = [TrainingTree(copy.folder, config.scenario_name) for copy in copies]
        states = [worst_state(look_at(tree, verify=verify)) for tree in trees]
        if as_json:
            print_json(
                {
                    "schema": 1,
                    "tree": str(config.tree),
                    "checkpoints": [_view_as_json(view) for view in views],
                    "copies": [
                        {**asdict(copy), "folder": str(copy.folder), "hashes": state}
                        for copy, state in zip(copies, states, strict=True)
                    ],
                }
            )
            return
        print(config.tree)
        rows = [("level", "step", "session", "size", "replay", "saved ago", "hashes")]
        for view in views:
            m = view.manifest
            claims = (f"{m.step:,}", str(m.lineage.generation)) if m else ("?", "?")
            sizes = (size(view.size), size(view.replay_size) if view.replay_size else "-")
            rows.append((view.level, *claims, *sizes, age(m.created_at) if m else "-", view.hash_state))
        nothing = f"  no checkpoint yet; {HINT}" if not views and only_quick_is_here(config) else "  no checkpoint yet"
        _print([f"  {line}" for line in table(rows)] if views else [nothing])
        _print([f"  ! {view.problem}" for view in views if view.problem])
        if copies:
            print(f"kept copies ({size(sum(copy.size for copy in copies))})")
            _print([f"  {line}" for line in copies_table(copies, states)])


@checkpoints.command()
def show(
    which: Annotated[str, typer.Argument(help="Timesteps of a checkpoint, `latest`, `best` or `final`.")] = "latest",
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that a checkpoint says of itself: lineage, experiment, arithmetic, files.

    Examples:

      kaggle-manager checkpoints show best

      kaggle-manager checkpoints show 45000 --json
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.config import build_config
    from kaggle_manager.trees.inspect import find_checkpoint

    with errors_as_messages(as_json=as_json):
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        with quick_may_be_meant(config):
            view = find_checkpoint(TrainingTree(config.tree, config.scenario_name), which, verify=True)
        described = _view_as_json(view)
        if as_json:
            print_json({"schema": 1, **described})
            return
        manifest = described["manifest"]
        print(f"{view.level} checkpoint of step {manifest['step']:,}, target {manifest['target']:,}: {view.hash_state}")
        _print([f"  ! {view.problem}"] if view.problem else [])
        lineage = {**manifest["lineage"], "manifest_sha256": described["manifest_sha256"]}
        for title, values in (
            ("lineage", {**lineage, "bundle_sha256": manifest["bundle_sha256"], "saved": manifest["created_at"]}),
            ("experiment", manifest["identity"]),
            ("exactness", {**manifest["exact"], "certificate": manifest["certificate"]}),
            ("metrics", manifest["metrics"]),
        ):
            print(title)
            _print([f"  {line}" for line in table([(name, _value(value)) for name, value in values.items()])])
        print("files")
        rows = [(entry["name"], size(entry["size"]), entry["sha256"]) for entry in manifest["files"]]
        for ref in manifest["replay"]["segments"] if manifest["replay"] else ():
            rows.append((f"replay/{ref['name']}", size(ref["length"]), ref["sha256"]))
        _print([f"  {line}" for line in table(rows)])


@checkpoints.command()
def verify(
    folder: Annotated[Path | None, typer.Argument(help="A training tree or a kept copy; else the section's.")] = None,
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every byte of a training tree; exit 3 and name what does not verify.

    Examples:

      kaggle-manager checkpoints verify

      kaggle-manager checkpoints verify .kaggle_manager/archive/<tree>
    """
    from kaggle_manager.checkpoints import TrainingTree
    from kaggle_manager.config import build_config
    from kaggle_manager.trees.compare import tree_at
    from kaggle_manager.trees.inspect import verify_tree

    with errors_as_messages(as_json=as_json):
        if folder is not None and not section:  # its manifests say of which scenario it is
            tree = tree_at(folder, scenario or "any_scenario")
            found = verify_tree(tree)
        else:
            config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
            own = TrainingTree(config.tree, config.scenario_name)
            tree = tree_at(folder, config.scenario_name) if folder else own
            with quick_may_be_meant(config):
                found = verify_tree(tree)
        if found.problems:
            raise CheckpointCorrupt(
                f"{tree.root} does not verify:\n  " + "\n  ".join(found.problems),
                safe="nothing was changed",
                next_step="the next run uses the newest checkpoint that verifies; `kaggle-manager checkpoints ls`, "
                "with the same options, lists the copies that `kaggle-manager restore ... --from` puts back",
            )
        if as_json:
            print_json({"schema": 1, "tree": str(tree.root), "files": found.files, "bytes": found.bytes})
        else:
            print(f"{tree.root}: {found.files:,} files, {size(found.bytes)}, every byte as its manifest says")


@checkpoints.command()
def diff(
    a: Annotated[str, typer.Argument(help="latest, best, final, timesteps, a tree's folder, or a run's id.")],
    b: Annotated[str, typer.Argument(help="The same, for the other side.")],
    *,
    section: SectionOption,
    scenario: ScenarioOption = None,
    quick: QuickOption = False,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in words what differs between two checkpoints, trees or runs.

    Examples:

      kaggle-manager checkpoints diff latest best

      kaggle-manager checkpoints diff latest .kaggle_manager/archive/<tree>
    """
    from kaggle_manager.config import build_config
    from kaggle_manager.trees.compare import TOPICS, compare_sides, find_side

    with errors_as_messages(as_json=as_json):
        config = build_config(section, scenario=scenario, quick=quick, workdir=workdir)
        with quick_may_be_meant(config):
            differences = compare_sides(find_side(a, config), find_side(b, config))
        if as_json:
            print_json({"schema": 1, "a": a, "b": b, "differences": [asdict(each) for each in differences]})
            return
        for topic in TOPICS:
            words = [each.words for each in differences if each.topic == topic]
            _print([f"{topic}: {'the same' if not words else ''}".rstrip(), *(f"  {line}" for line in words)])


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


def _print(lines: list[str]) -> None:
    for line in lines:
        print(line)
