"""A slot: one manifest and the files it names, replaced together in one step.

Latest checkpoints, the best model and the final model are all committed by this one protocol.

    1  write and sync every file as  <name>.next
    2  write and sync the manifest as  <manifest>.next
    3  sync the folder                                     <- the commit: from here the new content counts
    4  rename every file to its name, the manifest last
    5  sync the folder

Promises: at every instant, whatever crashes, the slot reads as its old content or its new content, whole: before 3 no
file of the old content was touched, after 3 every file of the new one lies under one of its two names.
Never does: choose between slots, or delete a committed file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import contents as content
from kaggle_manager.checkpoints.atomic_io import Disk, make_way, own_folder, put
from kaggle_manager.checkpoints.contents import Contents
from kaggle_manager.checkpoints.file_entry import FileEntry
from kaggle_manager.checkpoints.layout import PENDING_SUFFIX, inside
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.errors import CheckpointCorrupt, UnsafePath

LOOKS_AGAIN_S = (0.05, 0.3)
"""Seconds before a reader believes that what it found is damaged: its owner may be between two renames."""


@dataclass(frozen=True)
class Slot:
    """Where a manifest lives; its files lie beside it."""

    folder: Path
    manifest_name: str

    @property
    def manifest_path(self) -> Path:
        """The manifest, once its files are under their final names."""
        return self.folder / self.manifest_name

    @property
    def pending_path(self) -> Path:
        """The manifest of a commit that is not finished yet."""
        return self.folder / (self.manifest_name + PENDING_SUFFIX)


@dataclass(frozen=True)
class Content:
    """A slot's content, every file verified against its manifest.

    Args:
        manifest: what it consists of.
        manifest_path: where the manifest lies now.
        paths: where each file lies now, by its name in the manifest.
    """

    manifest: Manifest
    manifest_path: Path
    paths: Mapping[str, Path]


def entries_for(contents: Contents) -> tuple[FileEntry, ...]:
    """Return what a manifest says of `contents`, ordered by name."""
    return tuple(content.entry_of(name, contents[name]) for name in sorted(contents))


def commit(slot: Slot, manifest: Manifest, contents: Contents, disk: Disk) -> None:
    """Replace the slot's content by `contents`, the files that `manifest` names.

    Raises:
        OSError: from the disk; the slot then reads as before, or, if the failure came after the commit, as after.
    """
    pending = {name: slot.folder / (name + PENDING_SUFFIX) for name in contents}
    if any(path.exists() for path in (slot.pending_path, *pending.values())):
        settle(slot, disk)
    own_folder(disk, slot.folder)
    for path in (*pending.values(), slot.pending_path):
        make_way(disk, path)
    try:
        for name, path in sorted(pending.items()):
            content.write(disk, path, contents[name])
            disk.sync(path)
        disk.write(slot.pending_path, manifest.to_bytes())
        disk.sync(slot.pending_path)
    except OSError:
        for path in (*pending.values(), slot.pending_path):  # nothing counts yet, and a full disk wants the space back
            with contextlib.suppress(OSError):
                disk.unlink(path)
        raise
    disk.sync_folder(slot.folder)
    _finish(slot, pending, disk)


def read(slot: Slot, disk: Disk) -> Content | None:
    """Return the slot's content, or None when nothing was ever committed there. Changes nothing.

    Raises:
        CheckpointCorrupt: when something was committed and does not verify.
        CheckpointIncompatible: when another version of kaggle-manager committed it.
        OSError: when it cannot be read, which proves no damage.
    """
    with contextlib.suppress(CheckpointCorrupt, FileNotFoundError):  # torn before its commit: the current one counts
        return _verify(slot, slot.pending_path, disk)
    with contextlib.suppress(FileNotFoundError):
        return _verify(slot, slot.manifest_path, disk)
    return None


def look(slot: Slot, disk: Disk, sleep: Callable[[float], None] = time.sleep) -> Content | None:
    """As `read`, beside an owner that may be replacing the content at this moment.

    Raises:
        CheckpointCorrupt, CheckpointIncompatible, OSError: as `read`.
    """
    for wait_s in LOOKS_AGAIN_S:
        with contextlib.suppress(CheckpointCorrupt):
            return read(slot, disk)
        sleep(wait_s)
    return read(slot, disk)


def settle(slot: Slot, disk: Disk) -> bool:
    """Finish a commit that was cut after its commit point; forget one that was cut before.

    Returns:
        whether there was anything to do.

    Raises:
        OSError: from the disk; the slot reads as before.
    """
    try:
        pending = _verify(slot, slot.pending_path, disk)
        disk.sync_folder(slot.folder)  # a commit that was cut may not have reached it
        _finish(slot, pending.paths, disk)
        return True
    except FileNotFoundError:
        found = False
    except CheckpointCorrupt:
        disk.unlink(slot.pending_path)
        found = True
    with contextlib.suppress(CheckpointCorrupt, FileNotFoundError):
        # A power loss may keep the rename of the manifest and lose that of a file.
        current = _verify(slot, slot.manifest_path, disk)
        found = _move_files(slot, current.paths, disk) or found
    return found


def _finish(slot: Slot, paths: Mapping[str, Path], disk: Disk) -> None:
    _move_files(slot, paths, disk)
    put(disk, slot.pending_path, slot.manifest_path)
    disk.sync_folder(slot.folder)


def _move_files(slot: Slot, paths: Mapping[str, Path], disk: Disk) -> bool:
    """Give each file that lies under its pending name its final one; say whether there was any."""
    pending = [(name, path) for name, path in paths.items() if path.name != name]
    for name, path in pending:
        put(disk, path, slot.folder / name)
    return bool(pending)


def _verify(slot: Slot, manifest_path: Path, disk: Disk) -> Content:
    """Read the manifest at `manifest_path` and find, under either name, each file it names.

    Raises:
        FileNotFoundError: when there is no such manifest.
        OSError: when a file cannot be read.
        CheckpointCorrupt: when the manifest, or a file, is not what it should be.
    """
    try:
        manifest = parse_manifest(disk.read(manifest_path))
    except CheckpointCorrupt as error:
        raise CheckpointCorrupt(f"{manifest_path.name}: {error.message}") from error
    paths, problems = {}, []
    for entry in manifest.files:
        name, problem = entry.name, _problem(slot.folder, entry.name, entry, disk)
        if problem and not _problem(slot.folder, entry.name + PENDING_SUFFIX, entry, disk):
            name, problem = entry.name + PENDING_SUFFIX, ""
        paths[entry.name] = slot.folder / name
        problems += [f"{problem}."] if problem else []
    if problems:
        raise CheckpointCorrupt(f"{manifest_path.name}: {' '.join(problems)}")
    return Content(manifest, manifest_path, paths)


def _problem(folder: Path, name: str, entry: FileEntry, disk: Disk) -> str:
    """Say what is wrong with the file `name` as `entry`; "" when it verifies."""
    try:
        path = inside(folder, name)
        size = path.stat().st_size
        if size != entry.size:
            return f"{name} has {size:,} bytes where {entry.size:,} were written"
        if disk.sha256(path, entry.size).hexdigest() != entry.sha256:
            return f"{name} has other bytes than were written (SHA-256 differs)"
    except (FileNotFoundError, NotADirectoryError):
        return f"{name} is missing"
    except UnsafePath as error:
        return error.message.rstrip(".")
    return ""
