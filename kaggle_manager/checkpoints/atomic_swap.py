"""A whole training tree replaced by another one in one step.

    1  build the new tree as  <root>.incoming, sync everything
    2  rename it to           <root>.ready          <- complete
    3  rename the old tree to where it is kept
    4  rename <root>.ready to <root>

Promises: whatever crashes, the old tree or the new one is there, whole, after `finish`: cut before 3 the new tree is
dropped (its source still exists), cut after 3 it is put in place. The old tree is kept, always.
Never does: copy a tree it replaces, or delete it; replace a link to a tree by a tree.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import Disk, free_name, remove_tree
from kaggle_manager.system.place import check


def real_folder(root: Path) -> Path:
    """Return where a tree lies: what `root` links to, so that a tree on another disk stays there and the link stays."""
    return Path(os.path.realpath(root)) if root.is_symlink() else root


def check_place(root: Path) -> None:
    """Refuse what is in the place of a training tree and can be none.

    Raises:
        StorageError: a file is there, or `root`, or a folder above it, links to a disk that is not there or to itself.
    """
    place = real_folder(root)
    if root.is_symlink() and not os.path.lexists(place) and place.parent.is_dir():
        return  # the tree was set aside, and the next one goes where it was
    check(root)


def incoming(root: Path) -> Path:
    """Return the folder in which a new tree is built."""
    place = real_folder(root)
    return place.with_name(place.name + ".incoming")


def ready(root: Path) -> Path:
    """Return the folder of a new tree that is complete and not yet in place."""
    place = real_folder(root)
    return place.with_name(place.name + ".ready")


def finish(root: Path, disk: Disk) -> bool:
    """Finish or undo a swap that was cut; say whether there was one.

    Raises:
        OSError: from the disk; doing it again continues.
    """
    place = real_folder(root)
    if not ready(place).is_dir():
        return False
    if place.exists():
        remove_tree(disk, ready(place))
    else:
        disk.replace(ready(place), place)
        disk.sync_folder(place.parent)
    return True


def begin(root: Path, disk: Disk) -> None:
    """Settle what an earlier swap left, so that a new tree can be built in `incoming(root)`.

    Raises:
        OSError: from the disk; doing it again continues.
    """
    finish(root, disk)
    if incoming(root).is_dir():
        remove_tree(disk, incoming(root))


def put_in_place(root: Path, keep_replaced: Path, disk: Disk) -> Path | None:
    """Put the tree built in `incoming(root)`, whose files are synced, in place; return where the old one is kept.

    Raises:
        OSError: from the disk; `finish` then brings back the old tree or the new one.
    """
    for folder in sorted(path for path in incoming(root).rglob("*") if path.is_dir()):
        disk.sync_folder(folder)
    disk.sync_folder(incoming(root))
    place = real_folder(root)
    disk.replace(incoming(place), ready(place))
    disk.sync_folder(place.parent)
    kept = set_aside(place, keep_replaced, disk) if place.exists() else None
    disk.replace(ready(place), place)
    disk.sync_folder(place.parent)
    return kept


def set_aside(folder: Path, wanted: Path, disk: Disk) -> Path:
    """Rename `folder` to `wanted`, or to the next free name after it; return the name it got.

    When `wanted` lies in another file system, where a rename cannot go, it stays beside its old place instead.

    Raises:
        OSError: from the disk; `folder` is then where it was.
    """
    disk.make_folder(wanted.parent)
    destination = free_name(wanted)
    try:
        disk.replace(folder, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        destination = free_name(folder.with_name(f"{folder.name}.kept"))
        disk.replace(folder, destination)
    disk.sync_folder(destination.parent)
    return destination
