"""A slot: one manifest and the files it names, replaced together in one step.

Latest checkpoints, the best model and the final model are all committed by this one protocol.

    1  write and sync every file as  <name>.next
    2  write and sync the manifest as  <manifest>.next
    3  sync the folders                                    <- the commit: from here the new content counts
    4  read all of it back
    5  delete what of the old content the new one has no file for; rename every file to its name, the manifest last
    6  sync the folders

Promises: at every instant, whatever crashes, the slot reads as its old content or its new content, whole: before 5 no
file of the old content was touched, after 3 every file of the new one lies under one of its two names. Nothing is
replaced by what does not read back as it was written.
Never does: choose between slots; write into a committed file, which may be another checkpoint's as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import contents as content
from kaggle_manager.checkpoints.atomic_io import Disk, make_way, own_folder, put
from kaggle_manager.checkpoints.contents import Contents
from kaggle_manager.checkpoints.file_entry import FileEntry
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, PENDING_SUFFIX, ROLES, STATISTICS_ALONE, inside
from kaggle_manager.checkpoints.manifest import Manifest, parse_manifest
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, UnsafePath

LOOKS_AGAIN_S = (0.05, 0.3)
"""Seconds before a reader concludes that what it found is damaged: its owner may be between two renames."""


@dataclass(frozen=True)
class Slot:
    """Where a manifest lives; its files lie beside it, and below."""

    folder: Path
    manifest_name: str

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return self.manifest_name.removesuffix(MANIFEST_SUFFIX)

    @property
    def usual_names(self) -> list[str]:
        """The names that this project gives, a script's own files apart."""
        return [*(self.stem + end for end in ROLES.values()), STATISTICS_ALONE]

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


def commit(slot: Slot, manifest: Manifest, contents: Contents, disk: Disk) -> Content:
    """Replace the slot's content by `contents`, by role, the files that `manifest` names.

    Raises:
        OSError: from the disk; the slot then reads as before, or, if the failure came after the commit, as after.
        CheckpointCorrupt: it does not read back as it was written. The slot reads as before; the new files still lie
            under their pending names.
    """
    pending = {file.role: slot.folder / (file.name + PENDING_SUFFIX) for file in manifest.files}
    if any(path.exists() for path in (slot.pending_path, *pending.values())):
        settle(slot, disk)
    own_folder(disk, slot.folder)
    for folder in _folders(slot, manifest):
        disk.make_folder(folder)
    for path in (*pending.values(), slot.pending_path):
        make_way(disk, path)
        if path.exists():  # of a commit that was cut; it may be a second name of a committed file
            disk.unlink(path)
    try:
        for role, path in sorted(pending.items()):
            content.write(disk, path, contents[role])
            disk.sync(path)
        disk.write(slot.pending_path, manifest.to_bytes())
        disk.sync(slot.pending_path)
    except OSError:
        for path in (*pending.values(), slot.pending_path):  # nothing counts yet, and a full disk wants the space back
            with contextlib.suppress(OSError):
                disk.unlink(path)
        raise
    _sync(slot, manifest, disk)
    written = _verify(slot, slot.pending_path, disk)
    _finish(slot, written, disk)
    paths = {file.name: slot.folder / file.name for file in manifest.files}
    return Content(written.manifest, slot.manifest_path, paths)


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
        _sync(slot, pending.manifest, disk)  # a commit that was cut may not have reached it
        _finish(slot, pending, disk)
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


def delete_files(slot: Slot, names: Iterable[str], disk: Disk) -> None:
    """Delete files of a slot, and the folders below it that they leave empty.

    Raises:
        OSError: from the disk; doing it again continues.
    """
    emptied = set()
    for path in (slot.folder / name for name in names):
        make_way(disk, path)
        disk.unlink(path)
        emptied |= {folder for folder in path.parents if folder.is_relative_to(slot.folder) and folder != slot.folder}
    for folder in sorted(emptied, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            disk.remove_folder(folder)


def _finish(slot: Slot, pending: Content, disk: Disk) -> None:
    _delete_superseded(slot, pending.manifest, disk)
    _move_files(slot, pending.paths, disk)
    put(disk, slot.pending_path, slot.manifest_path)
    _sync(slot, pending.manifest, disk)


def _delete_superseded(slot: Slot, manifest: Manifest, disk: Disk) -> None:
    """Delete what the old content has a file for and the new one has not: it would lie beside what it is not of."""
    try:
        names = {file.name for file in parse_manifest(disk.read(slot.manifest_path)).files}
    except FileNotFoundError:
        return  # what else lies there is not of this project
    except (CheckpointCorrupt, CheckpointIncompatible, OSError):  # nobody can say what it named
        names = set(slot.usual_names)
    names -= {file.name for file in manifest.files}
    if there := sorted(name for name in names if (slot.folder / name).is_file()):
        delete_files(slot, there, disk)
        for folder in sorted({path for name in there if (path := (slot.folder / name).parent).is_dir()}):
            disk.sync_folder(folder)  # while there is a manifest that names them


def _move_files(slot: Slot, paths: Mapping[str, Path], disk: Disk) -> bool:
    """Give each file that lies under its pending name its final one; say whether there was any."""
    pending = [(slot.folder / name, path) for name, path in paths.items() if path != slot.folder / name]
    for final, path in pending:
        put(disk, path, final)
        if path.exists():  # two names of one file, which a rename leaves as they are
            disk.unlink(path)
    return bool(pending)


def _folders(slot: Slot, manifest: Manifest) -> list[Path]:
    """Where the files of a manifest lie, the slot's own folder last."""
    below = {(slot.folder / file.name).parent for file in manifest.files} - {slot.folder}
    return [*sorted(below), slot.folder]


def _sync(slot: Slot, manifest: Manifest, disk: Disk) -> None:
    for folder in _folders(slot, manifest):
        disk.sync_folder(folder)


def _verify(slot: Slot, manifest_path: Path, disk: Disk) -> Content:
    """Read the manifest at `manifest_path` and find, under either name, each file it names; first under its like.

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
    ends = (PENDING_SUFFIX, "") if manifest_path == slot.pending_path else ("", PENDING_SUFFIX)
    for entry in manifest.files:
        name, other = (entry.name + end for end in ends)
        problem = _problem(slot.folder, name, entry, disk)
        if problem and not _problem(slot.folder, other, entry, disk):
            name, problem = other, ""
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
