"""Which checkpoints the manifests of a tree name, in which order, and where a damaged one goes.

Promises: the order comes from the steps in the manifests; what is put aside keeps its bytes and the reason, together.
Never does: verify the files of a checkpoint (that is `atomic_slot.read` and `replay_files.verify`), or delete.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import Disk, own_folder, write_atomic
from kaggle_manager.checkpoints.atomic_slot import Slot
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, PENDING_SUFFIX, TrainingTree
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.errors import CheckpointCorrupt


def best_slot(tree: TrainingTree) -> Slot:
    """Return where the best model lives."""
    return Slot(tree.best_folder, tree.best_manifest_name)


def final_slot(tree: TrainingTree) -> Slot:
    """Return where the final model lives."""
    return Slot(tree.root, tree.final_manifest_name)


def latest_slot(tree: TrainingTree, step: int) -> Slot:
    """Return where the latest checkpoint of `step` lives."""
    return Slot(tree.checkpoints, tree.manifest_name(step))


def latest_slots(tree: TrainingTree) -> list[Slot]:
    """Return every slot of `checkpoints/`, whether its content verifies or not, by name.

    Only a file is a manifest: a folder or a pipe of such a name, which the user's code made, is none.
    """
    manifests = tree.checkpoints.glob(f"*{MANIFEST_SUFFIX}")
    pending = tree.checkpoints.glob(f"*{MANIFEST_SUFFIX}{PENDING_SUFFIX}")
    names = {path.name.removesuffix(PENDING_SUFFIX) for path in (*manifests, *pending) if path.is_file()}
    return [Slot(tree.checkpoints, name) for name in sorted(names)]


@dataclass(frozen=True)
class Index:
    """What the manifests of `checkpoints/` say, before any of their files is looked at.

    Args:
        newest_first: the slots whose manifest can be read, with its step, highest first.
        damaged: slots whose manifest does not match its own seal.
        unreadable: slots whose manifest the disk refuses to give: their step is unknown.
    """

    newest_first: list[tuple[Slot, int]]
    damaged: list[Slot]
    unreadable: list[Slot]


def read_index(tree: TrainingTree, disk: Disk) -> Index:
    """Read the manifests of the latest slots. A torn pending manifest alone was never committed and is left out.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote one.
    """
    found = Index([], [], [])
    for where in latest_slots(tree):
        try:
            manifests = [read_manifest(path, disk) for path in (where.pending_path, where.manifest_path)]
        except OSError:
            found.unreadable.append(where)
            continue
        steps = [manifest.step for manifest in manifests if manifest is not None]
        if steps:
            found.newest_first.append((where, max(steps)))
        elif where.manifest_path.exists():
            found.damaged.append(where)
    found.newest_first.sort(key=lambda slot_and_step: -slot_and_step[1])
    return found


def newest_manifest(tree: TrainingTree, disk: Disk) -> Manifest | None:
    """Return the manifest of the newest latest checkpoint, whether its files verify or not; None for none.

    Raises:
        CheckpointIncompatible, OSError: as `read_index` and `read_manifest`.
    """
    for where, step in read_index(tree, disk).newest_first:
        for path in (where.pending_path, where.manifest_path):
            if (manifest := read_manifest(path, disk)) is not None and manifest.step == step:
                return manifest
    return None


def read_manifest(path: Path, disk: Disk) -> Manifest | None:
    """Return the manifest at `path`, None when there is none or it is damaged; its files are not looked at.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote it.
        OSError: when it is there and cannot be read.
    """
    try:
        return parse_manifest(disk.read(path))
    except (FileNotFoundError, CheckpointCorrupt):
        return None


def put_in_quarantine(tree: TrainingTree, name: str, paths: list[Path], reason: str, disk: Disk) -> Path:
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
        disk.replace(path, folder / path.name)
    return folder


def slot_files(where: Slot, disk: Disk) -> list[Path]:
    """Return the files of a slot that are there, under either name, manifests included."""
    stem = where.manifest_name.removesuffix(MANIFEST_SUFFIX)
    manifest = None
    with contextlib.suppress(OSError):  # else by the names this project gives
        manifest = read_manifest(where.manifest_path, disk) or read_manifest(where.pending_path, disk)
    names = [entry.name for entry in manifest.files] if manifest else [f"{stem}.zip", f"{stem}.state"]
    candidates = [where.folder / (name + end) for name in (*names, where.manifest_name) for end in ("", PENDING_SUFFIX)]
    return [path for path in candidates if path.exists()]
