"""The two things a person asks to compare: a checkpoint, a folder with a training tree, or a run.

Never does: change anything, or guess: what fits two runs is an error that names them.
"""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.checkpoints import Disk, TrainingTree, catalogue
from kaggle_manager.compare_trees import Side, side_of
from kaggle_manager.config import RunConfig
from kaggle_manager.copies import find_copies
from kaggle_manager.errors import ConfigError, NotFound
from kaggle_manager.journal import Journal, RunRow
from kaggle_manager.tree_view import find_checkpoint, look_at


def find_side(name: str, config: RunConfig) -> Side:
    """What `name` means: `latest`, `best`, `final` or timesteps in the tree of `config`; a folder; or a run's id.

    Raises:
        NotFound: it is none of these, or nothing is left of the run.
        ConfigError: it is the beginning of several runs' ids.
    """
    own = TrainingTree(config.tree, config.scenario_name)
    if name in ("latest", "best", "final") or name.isdecimal():
        view = find_checkpoint(own, name)
        return side_of(own, name, view.manifest)
    if Path(name).is_dir():
        return side_of(tree_at(Path(name), config.scenario_name), "/".join(Path(name).resolve().parts[-2:]))
    return side_of(_tree_of_run(name, config), f"run {name[:8]}")


def tree_at(folder: Path, otherwise: str) -> TrainingTree:
    """The tree in a folder, of the scenario its manifests name."""
    slots = catalogue.latest_slots(TrainingTree(folder, otherwise))
    found = (catalogue.claimed_manifest(where.manifest_path, Disk()) for where in slots)
    return TrainingTree(folder, next((manifest.scenario for manifest in found if manifest), otherwise))


def _tree_of_run(name: str, config: RunConfig) -> TrainingTree:
    runs = _runs(config, name)
    if len(runs) > 1:
        raise ConfigError(f"{name!r} is the beginning of {len(runs)} runs: {', '.join(run.run_id for run in runs)}.")
    if not runs:
        raise NotFound(
            f"{name!r} is no checkpoint, no folder and no run in {config.journal}.",
            next_step="give latest, best, final, timesteps, the folder of a training tree, or a run's id",
        )
    (run,) = runs
    folders = [Path(run.tree), *(copy.folder for copy in find_copies(config))]
    for folder in folders:
        tree = TrainingTree(folder, run.scenario)
        heads = [view.manifest for view in look_at(tree, verify=False) if view.manifest]
        if heads and heads[0].lineage.run_id == run.run_id:
            return tree
    raise NotFound(f"Nothing is left of run {run.run_id} in {config.state}.", next_step="name another run")


def _runs(config: RunConfig, beginning: str) -> list[RunRow]:
    if not config.journal.is_file():
        return []
    journal = Journal.to_read(config.journal)
    try:
        return [run for run in journal.runs() if run.run_id.startswith(beginning)]
    finally:
        journal.close()
