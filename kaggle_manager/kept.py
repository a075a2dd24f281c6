"""The copies of a training tree that this machine keeps, and what to say when the tree itself has none left.

A tree that was trained and now has no checkpoint that verifies is an error that offers its copies, never a start from
zero. Nothing here changes a tree.
"""

from __future__ import annotations

from collections.abc import Iterator

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.experiment import verdict_on
from kaggle_manager.session_report import TREE_FOLDER


def head_of(store: CheckpointStore, config: RunConfig, *, saved_step: int = 0) -> Checkpoint | None:
    """The checkpoint the next session continues; None only when the tree was never trained.

    Args:
        store: of the tree `config.tree`.
        saved_step: what the journal knows to have been saved.

    Raises:
        CheckpointCorrupt: the tree was trained, and none of its checkpoints can be used; offers the copies there are.
    """
    try:
        head = store.find_latest_checkpoint()
        problem = f"{config.tree} was trained and holds no checkpoint that can be used."
    except CheckpointCorrupt as error:
        head, problem = None, error.message
    if head is not None or not (saved_step or _was_trained(store.tree)):
        return head
    from_zero = "start again from zero with --fresh, which archives what is left of the tree"
    copies = sorted(kept_copies(config), key=lambda copy: copy.manifest.created_at, reverse=True)
    if not copies:
        raise CheckpointCorrupt(problem, safe=f"what is left is in {config.tree}", next_step=from_zero)
    command = f"kaggle-manager restore {config.section.name} {config.flags} --from {copies[0].tree.root}"
    raise CheckpointCorrupt(
        problem,
        safe="; ".join(f"step {copy.step} is in {copy.tree.root}" for copy in copies),
        next_step=f"{command}\n  and then the same command again; or {from_zero}",
    )


def kept_copies(config: RunConfig) -> Iterator[Checkpoint]:
    """The newest checkpoint of each kept tree that still verifies and belongs to the experiment of `config`."""
    folders = (
        *config.downloads.glob(f"*/*/{TREE_FOLDER}"),
        *config.replaced.glob("*/*"),
        *config.archive.glob("*"),
    )
    for folder in folders:
        for newest in CheckpointStore(TrainingTree(folder, config.scenario_name)).valid_checkpoints()[:1]:
            if not verdict_on(newest.manifest.identity, config).refused:
                yield newest


def _was_trained(tree: TrainingTree) -> bool:
    """Whether models lie in a tree, whatever has become of its checkpoints."""
    return any(tree.root.rglob("*.zip"))
