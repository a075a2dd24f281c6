"""Order in a training tree after a crash.

Promises: what was cut after its commit is finished, what was cut before is undone, leftovers that no manifest
names are removed, and what nobody can explain is put into quarantine. Doing it twice does nothing more.
Never does: delete a file that a manifest names, or that was not marked for deletion.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from kaggle_manager.checkpoints import atomic_slot, atomic_swap, index
from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.layout import DELETED_SUFFIX, PENDING_SUFFIX, TEMPORARY_SUFFIX, TrainingTree
from kaggle_manager.checkpoints.manifest import parse_manifest
from kaggle_manager.checkpoints.quarantine import put_aside
from kaggle_manager.errors import CheckpointCorrupt


def recover(tree: TrainingTree, disk: Disk) -> list[str]:
    """Bring the tree in order; return what was done. See `CheckpointStore.recover`.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote a checkpoint.
        OSError: from the disk; every committed checkpoint still loads.
    """
    done = [f"{tree.root.name}: finished"] if atomic_swap.finish(tree.root, disk) else []
    left = []
    for where in (*index.latest_slots(tree), index.best_slot(tree), index.final_slot(tree)):
        try:
            done += [f"{where.manifest_name}: finished"] if atomic_slot.settle(where, disk) else []
        except OSError as error:  # it reads as it would after settling; all that it may need stays
            left.append(f"{where.manifest_name}: left as it is, for the disk refuses ({error})")
    if left:
        return done + left
    for marked in sorted(tree.checkpoints.glob(f"*{DELETED_SUFFIX}")):
        _finish_deletion(marked, disk)
        done.append(f"{marked.name}: removed")
    for folder in (tree.checkpoints, tree.replay, tree.best_folder, tree.root):
        for path in (*sorted(folder.glob("*")), *index.own_files(folder)):
            if path.suffix in (PENDING_SUFFIX, TEMPORARY_SUFFIX) and path.is_file():
                disk.unlink(path)
                done.append(f"{path.name}: removed")
    if orphans := _orphans(tree, disk):
        folder = put_aside(tree, "orphans", orphans, "No manifest names these files.", disk)
        done += [f"{path.name}: moved to {folder}" for path in orphans]
    return done


def delete_slot(where: atomic_slot.Slot, disk: Disk) -> None:
    """Delete a slot: first the intent on the disk, then its files. Cut anywhere, `recover` finishes it.

    Raises:
        OSError: from the disk.
    """
    marked = where.folder / (where.manifest_name + DELETED_SUFFIX)
    disk.replace(where.manifest_path, marked)
    _finish_deletion(marked, disk)


def _finish_deletion(marked: Path, disk: Disk) -> None:
    """Delete the files named by a manifest that is marked as deleted, then the manifest.

    Raises:
        OSError: from the disk.
    """
    with contextlib.suppress(CheckpointCorrupt):  # then its files are orphans, which go to quarantine
        names = [file.name for file in parse_manifest(disk.read(marked)).files]
        atomic_slot.delete_files(atomic_slot.Slot(marked.parent, marked.name), names, disk)
    disk.unlink(marked)


def _orphans(tree: TrainingTree, disk: Disk) -> list[Path]:
    """Return the files of `checkpoints/` that belong to no slot: nobody marked them, so nobody may delete them."""
    owned = {path for where in index.latest_slots(tree) for path in index.slot_files(where, disk)}
    there = [*sorted(tree.checkpoints.glob("*")), *index.own_files(tree.checkpoints)]
    return [path for path in there if path.is_file() and path not in owned]
