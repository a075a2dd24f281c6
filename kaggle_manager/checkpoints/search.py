"""The search for the newest latest checkpoint: what is found, what was refused before it, and whether to look again.

Promises: a checkpoint is found only when every byte of it verifies, replay rows included. The search changes nothing.
Never does: take the older one silently, or nothing for "never trained" where there is something it cannot read.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kaggle_manager.checkpoints import atomic_slot, atomic_swap, index, replay_files
from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.atomic_slot import Content, Slot
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.errors import CheckpointCorrupt, StorageError


@dataclass(frozen=True)
class Found:
    """What a search for the newest latest checkpoint found: it, what was refused before it and why, and how it looked.

    Attributes:
        unsettled: there is more than could be read: the tree was being changed.
    """

    newest: Content | None
    refused: Sequence[tuple[Slot, str]]
    unreadable: Sequence[Slot]
    disk_refuses: bool
    unsettled: bool

    @property
    def is_sound(self) -> bool:
        """Whether another look would find the same."""
        return not self.refused and (self.newest is not None or not self.unsettled)


def search(tree: TrainingTree, disk: Disk) -> Found:
    """Look for it, newest first.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote one.
    """
    place, named = _folder(tree), index.latest_slots(tree)
    found = index.read_index(tree, disk)
    refused = [(where, f"{where.manifest_name} does not match its own seal.") for where in found.damaged]
    disk_refuses, newest = bool(found.unreadable), None
    for where, _ in found.newest_first:
        try:
            newest = read_verified(tree, where, disk)
        except CheckpointCorrupt as error:
            refused.append((where, error.message))
        except OSError:
            disk_refuses = True
            refused.append((where, f"{where.manifest_name} or a file of it cannot be read."))
        if newest is not None:
            break
    # In this order: a restore that ends between the two has put another folder there.
    unsettled = bool(named) or is_swapped(tree) or _folder(tree) != place
    return Found(newest, refused, found.unreadable, disk_refuses, unsettled)


def search_beside_owner(tree: TrainingTree, disk: Disk) -> Found:
    """As `search`, beside a process that may be saving at this moment.

    Raises:
        CheckpointIncompatible: as `search`.
    """
    found = search(tree, disk)
    for wait_s in atomic_slot.LOOKS_AGAIN_S:
        if found.is_sound:
            break
        time.sleep(wait_s)
        found = search(tree, disk)
    return found


def chosen(found: Found, tree: TrainingTree, warn: Callable[[str], None]) -> Content | None:
    """What a search found, and a word of what was not used; None when there is none at all.

    Raises:
        CheckpointCorrupt: there are checkpoints and none of them verifies.
        StorageError: none can be read because the disk refuses.
    """
    if found.newest is None:
        _refuse_to_start_over(found, tree)
        return None
    for where in found.unreadable:
        warn(f"{where.manifest_name} cannot be read. It was left where it is.")
    if found.refused or found.unreadable:
        warn(f"The checkpoint of step {found.newest.manifest.step:,} is used.")
    return found.newest


def valid(tree: TrainingTree, disk: Disk) -> list[Content]:
    """The latest checkpoints that verify, newest first.

    Raises:
        CheckpointIncompatible: as `search`.
    """
    found = []
    for where, _ in index.read_index(tree, disk).newest_first:
        with contextlib.suppress(CheckpointCorrupt, OSError):
            found.append(read_verified(tree, where, disk))
    return [content for content in found if content is not None]


def read_verified(tree: TrainingTree, where: Slot, disk: Disk) -> Content | None:
    """Return a slot's content, its replay rows verified as well; None when nothing was committed there.

    Raises:
        CheckpointCorrupt: a file or a replay segment is damaged.
        OSError: one cannot be read, which proves no damage.
    """
    content = atomic_slot.read(where, disk)
    if content is not None:
        replay_files.verify(tree.replay, content.manifest.segments, disk)
    return content


def is_swapped(tree: TrainingTree) -> bool:
    """Whether a restore is just before its last rename, or was cut there."""
    return not tree.root.exists() and atomic_swap.ready(tree.root).is_dir()


def _folder(tree: TrainingTree) -> tuple[int, int] | None:
    """Which folder is in the tree's place; None where there is none."""
    with contextlib.suppress(OSError):
        status = tree.root.stat()
        return status.st_dev, status.st_ino
    return None


def _refuse_to_start_over(found: Found, tree: TrainingTree) -> None:
    """Raise when there are checkpoints of which none can be used."""
    if found.disk_refuses:
        raise StorageError(
            f"The latest checkpoints in {tree.root} cannot be read: the disk refuses.",
            safe="they were left where they are",
            next_step="check the disk, then start the same command again",
        )
    if found.refused:
        raise CheckpointCorrupt(
            f"None of the latest checkpoints in {tree.root} can be used. "
            + " ".join(reason for _, reason in found.refused),
            safe="their files, which were left where they are",
            next_step="restore the tree from its last copy, or start again with --fresh",
        )
