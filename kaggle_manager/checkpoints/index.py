"""Which checkpoints the manifests of a tree name, in which order, and which files belong to each.

Promises: the order comes from the steps in the manifests.
Never does: verify the files of a checkpoint (that is `atomic_slot.read` and `replay_files.verify`), or delete.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.atomic_slot import Slot
from kaggle_manager.checkpoints.layout import (
    MANIFEST_SUFFIX,
    OWN_FILES_SUFFIX,
    PENDING_SUFFIX,
    TrainingTree,
)
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.errors import CheckpointCorrupt


def best_slot(tree: TrainingTree) -> Slot:
    """Return where the best model lives."""
    return Slot(tree.best_folder, tree.manifest_name("best"))


def final_slot(tree: TrainingTree) -> Slot:
    """Return where the final model lives."""
    return Slot(tree.root, tree.manifest_name("final"))


def latest_slot(tree: TrainingTree, step: int) -> Slot:
    """Return where the latest checkpoint of `step` lives."""
    return Slot(tree.checkpoints, tree.manifest_name("latest", step))


def latest_slots(tree: TrainingTree) -> list[Slot]:
    """Return every slot of `checkpoints/`, whether its content verifies or not, by name.

    Only a file is a manifest: a folder or a pipe of such a name, which the user's code made, is none.
    """
    return [Slot(tree.checkpoints, name) for name in manifest_names(tree.checkpoints)]


def manifest_names(folder: Path, stem: str = "*") -> list[str]:
    """Return the names of the manifests in `folder`, committed or pending.

    The pending ones are looked for first: a commit renames them, and the one that is renamed between the two looks is
    then seen under its final name.
    """
    names: set[str] = set()
    for end in (PENDING_SUFFIX, ""):
        there = folder.glob(f"{stem}{MANIFEST_SUFFIX}{end}")
        names |= {path.name.removesuffix(PENDING_SUFFIX) for path in there if path.is_file()}
    return sorted(names)


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


def slot_files(where: Slot, disk: Disk, *, pending_alone: bool = False) -> list[Path]:
    """Return the files of a slot that are there, under either name, manifests included.

    Args:
        pending_alone: only those of a commit that is not finished.
    """
    manifests = []
    with contextlib.suppress(OSError):
        manifests = [read_manifest(path, disk) for path in (where.manifest_path, where.pending_path)]
    named = [file.name for manifest in manifests if manifest for file in manifest.files]
    if not named:  # then what this project gives such names
        named = where.usual_names
        named += [path.relative_to(where.folder).as_posix() for path in own_files(where.folder, where.stem)]
    ends = (PENDING_SUFFIX,) if pending_alone else ("", PENDING_SUFFIX)
    candidates = [where.folder / (name + end) for name in (*named, where.manifest_name) for end in ends]
    return [path for path in dict.fromkeys(candidates) if path.exists()]


def own_files(folder: Path, stem: str = "*") -> list[Path]:
    """Return what lies in the folders of scripts' own files, of one checkpoint or of all in `folder`; no folders."""
    below = (path for own in folder.glob(f"{stem}{OWN_FILES_SUFFIX}") for path in own.rglob("*"))
    return sorted(path for path in below if not path.is_dir())
