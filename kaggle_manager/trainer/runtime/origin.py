"""Where a training starts: from the newest checkpoint, or from zero because there is nothing or because it was asked.

Never from the best model, and never from zero in silence. Opens nothing of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Manifest, TrainingTree, archive_tree, unpack_tree
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.trainer.runtime.input_mount import check_lineage, check_vouched, find_mount
from kaggle_manager.trainer.runtime.log_lines import warn as warn_in_log


@dataclass(frozen=True)
class Origin:
    """The checkpoint to continue from, or the reason to start from zero."""

    checkpoint: Checkpoint | None
    reason: str

    @property
    def step(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.step


def find_origin(
    tree: TrainingTree, *, fresh: bool, warn: Callable[[str], None], check: Callable[[Manifest], object]
) -> Origin:
    """Bring the tree in order and find what to continue from.

    Args:
        fresh: a tree that is there is moved aside, never deleted.
        check: called with the manifest of the checkpoint before anything of it is opened; raises what refuses it.

    Raises:
        KaggleManagerError: what `check` raises.
        CheckpointCorrupt: there are checkpoints and none verifies.
        CheckpointIncompatible: the newest was written by another version of the trainer.
        StorageError: the disk refused.
    """
    if fresh:
        if not tree.root.is_dir() or not any(tree.root.iterdir()):
            return Origin(None, "--fresh was given")
        archive = tree.root.with_name(f"{tree.root.name}_archived")
        kept = archive_tree(tree, archive, "A training of the same scenario was started again with --fresh.")
        return Origin(None, f"--fresh was given; the earlier tree is now {kept}")
    store = CheckpointStore(tree, warn=warn)
    store.recover()
    checkpoint = store.claim_latest_checkpoint()
    if checkpoint is None:
        return Origin(None, f"there is no checkpoint in {tree.checkpoints}")
    check(checkpoint.manifest)
    return Origin(checkpoint, "")


def origin_of_session(order: LaunchOrder, tree: TrainingTree, inputs: Path) -> Origin:
    """What a session continues: exactly what its order names, from the mounted dataset, or nothing.

    Raises:
        LineageMismatch: something else is mounted, or nothing.
        UntrustedTree: the manager does not say that it may be opened.
        KaggleManagerError: as `find_origin`.
    """
    parent = order.parent
    if parent is None:
        return Origin(None, "--fresh was given" if order.fresh else f"session {order.generation} has no parent")
    unpack_tree(find_mount(inputs, parent), tree.root, warn=warn_in_log)

    def check(head: Manifest) -> None:
        check_lineage(order, parent, head)
        check_vouched(parent)

    origin = find_origin(tree, fresh=False, warn=warn_in_log, check=check)
    if origin.checkpoint is None:
        check_lineage(order, parent, None)
    return origin
