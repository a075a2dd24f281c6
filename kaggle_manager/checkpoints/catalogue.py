"""Which checkpoints a tree claims to hold, in which order, and where a damaged one goes.

Promises: the order comes from the steps in the manifests; what is put aside keeps its bytes and the reason, together.
Never does: believe a claim (that is `slot.read` and `replay_files.verify`), or delete.
"""

from __future__ import annotations

import math
from pathlib import Path

from kaggle_manager.checkpoints.durable import Disk, write_atomic
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, PENDING_SUFFIX, TrainingTree
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.checkpoints.slot import Slot
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
    """Return every slot of `checkpoints/`, whether its content verifies or not, by name."""
    names = {path.name for path in tree.checkpoints.glob(f"*{MANIFEST_SUFFIX}")}
    pending = tree.checkpoints.glob(f"*{MANIFEST_SUFFIX}{PENDING_SUFFIX}")
    names |= {path.name.removesuffix(PENDING_SUFFIX) for path in pending}
    return [Slot(tree.checkpoints, name) for name in sorted(names)]


def claimed_manifest(path: Path, disk: Disk) -> Manifest | None:
    """Return the manifest at `path` when it can be read and its seal holds; its files are not looked at."""
    try:
        return parse_manifest(disk.read(path))
    except (OSError, CheckpointCorrupt):
        return None


def newest_first(tree: TrainingTree, disk: Disk) -> list[tuple[Slot, float]]:
    """Return the latest slots with the step each claims, highest first.

    A slot whose manifest cannot be read claims infinity, so that its damage is seen even when a good one follows. A
    torn pending manifest alone was never committed and is left out.
    """
    claims: list[tuple[Slot, float]] = []
    for where in latest_slots(tree):
        manifests = (claimed_manifest(path, disk) for path in (where.pending_path, where.manifest_path))
        steps = [manifest.step for manifest in manifests if manifest is not None]
        if steps or where.manifest_path.exists():
            claims.append((where, max(steps, default=math.inf)))
    return sorted(claims, key=lambda claim: -claim[1])


def put_in_quarantine(tree: TrainingTree, name: str, paths: list[Path], reason: str, disk: Disk) -> Path:
    """Move `paths` into a new folder of `quarantine/`, with the reason; return the folder.

    Raises:
        OSError: from the disk; what was not moved is where it was.
    """
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
    manifest = claimed_manifest(where.manifest_path, disk) or claimed_manifest(where.pending_path, disk)
    names = [entry.name for entry in manifest.files] if manifest else [f"{stem}.zip", f"{stem}.state"]
    candidates = [where.folder / (name + end) for name in (*names, where.manifest_name) for end in ("", PENDING_SUFFIX)]
    return [path for path in candidates if path.exists()]
