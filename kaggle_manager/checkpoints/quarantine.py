"""Where what does not verify goes: aside, with its replay rows, the reason and a warning.

Promises: what is put aside keeps its bytes; where it cannot be moved it stays, and that is said.
Never does: decide what is damaged, or delete.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kaggle_manager.checkpoints import index, replay_files
from kaggle_manager.checkpoints.atomic_io import Disk, own_folder, write_atomic
from kaggle_manager.checkpoints.atomic_slot import Slot
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.checkpoints.manifest import Manifest
from kaggle_manager.errors import StorageError, UnsafePath


def put_aside(tree: TrainingTree, name: str, paths: list[Path], reason: str, disk: Disk) -> Path:
    """Move `paths` into a new folder of `quarantine/`, with the reason; return the folder.

    Raises:
        OSError: from the disk; what was not moved is where it was.
    """
    own_folder(disk, tree.quarantine)
    number = 1
    while (folder := tree.quarantine / f"{name}_{number}").exists():
        number += 1
    disk.make_folder(folder)
    write_atomic(disk, folder / "reason.txt", (reason + "\n").encode())
    for path in paths:
        lay_in = next(above for above in (tree.checkpoints, tree.best_folder, tree.root) if path.is_relative_to(above))
        kept = folder / path.relative_to(lay_in)
        disk.make_folder(kept.parent)
        disk.replace(path, kept)
    return folder


def quarantine(
    tree: TrainingTree,
    where: Slot,
    reason: str,
    disk: Disk,
    warn: Callable[[str], None],
    *,
    pending_alone: bool = False,
) -> None:
    """Move a damaged slot's files aside, with a copy of its rows: the segments stay, for others share them.

    Args:
        pending_alone: only the files of a commit that is not finished: what it was to replace is whole.
    """
    try:
        manifest = index.read_manifest(where.pending_path if pending_alone else where.manifest_path, disk)
        paths = index.slot_files(where, disk, pending_alone=pending_alone)
        folder = put_aside(tree, where.stem, paths, reason, disk)
    except OSError as error:
        warn(f"{reason} It could not be moved to quarantine: {error}.")
    else:
        warn(f"{reason} It was moved to {folder}.{_keep_rows(tree, manifest, folder, disk)}")


def _keep_rows(tree: TrainingTree, manifest: Manifest | None, folder: Path, disk: Disk) -> str:
    if manifest is None or not manifest.segments:
        return ""
    try:
        return " " + replay_files.keep_copy(tree.replay, manifest.segments, folder / tree.replay.name, disk)
    except (OSError, StorageError, UnsafePath) as error:
        return f" Its replay rows could not be copied: {error}."
