"""Order in a training tree after a crash.

Promises: what was cut after its commit is finished, what was cut before is undone, leftovers that no manifest
names are removed, and what nobody can explain is put into quarantine. Doing it twice does nothing more.
Never does: delete a file that a manifest names, or that was not marked for deletion.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.checkpoints import atomic_slot, atomic_swap, index
from kaggle_manager.checkpoints.atomic_io import TEMPORARY_SUFFIX, Disk
from kaggle_manager.checkpoints.layout import DELETED_SUFFIX, PENDING_SUFFIX, TrainingTree
from kaggle_manager.checkpoints.manifest import parse_manifest
from kaggle_manager.errors import CheckpointCorrupt


@dataclass(frozen=True)
class Recovery:
    """What `recover` did.

    Args:
        finished: slots whose commit had been cut and was carried to its end or undone.
        removed: leftover files that no manifest names.
        quarantined: folders into which something unexplained was moved.
        left: slots the disk did not let settle; nothing was removed then. They read as before.
    """

    finished: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.finished or self.removed or self.quarantined or self.left)


def recover(tree: TrainingTree, disk: Disk) -> Recovery:
    """Bring the tree in order. See `CheckpointStore.recover`.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote a checkpoint.
        OSError: from the disk; every committed checkpoint still loads.
    """
    report = Recovery()
    if atomic_swap.finish(tree.root, disk):
        report.finished.append(tree.root.name)
    for where in (*index.latest_slots(tree), index.best_slot(tree), index.final_slot(tree)):
        try:
            if atomic_slot.settle(where, disk):
                report.finished.append(where.manifest_name)
        except OSError as error:  # it reads as it would after settling; whatever it may need stays
            report.left.append(f"{where.manifest_name}: {error}")
    if report.left:
        return report
    for marked in sorted(tree.checkpoints.glob(f"*{DELETED_SUFFIX}")):
        _finish_deletion(marked, disk)
        report.finished.append(marked.name)
    for folder in (tree.checkpoints, tree.replay, tree.best_folder, tree.root):
        for path in sorted(folder.glob("*")):
            if path.suffix in (PENDING_SUFFIX, TEMPORARY_SUFFIX) and path.is_file():
                disk.unlink(path)
                report.removed.append(path.name)
    orphans = _orphans(tree, disk)
    if orphans:
        folder = index.put_in_quarantine(tree, "orphans", orphans, "No manifest names these files.", disk)
        report.quarantined.append(str(folder))
    return report


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
        for entry in parse_manifest(disk.read(marked)).files:
            disk.unlink(marked.with_name(entry.name))
    disk.unlink(marked)


def _orphans(tree: TrainingTree, disk: Disk) -> list[Path]:
    """Return the files of `checkpoints/` that belong to no slot: nobody marked them, so nobody may delete them."""
    owned = {path for where in index.latest_slots(tree) for path in index.slot_files(where, disk)}
    return [path for path in sorted(tree.checkpoints.glob("*")) if path.is_file() and path not in owned]
