"""What is in a place where a folder or a file belongs: nothing yet, what belongs there, or what keeps it from being.

Every command asks here, so that what is neither, such as a link to a disk that is not mounted, is "nothing yet" to
none of them. Standard library only: this module travels into the session.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import StorageError
from kaggle_manager.system.command_line import quoted


@dataclass(frozen=True)
class Obstacle:
    """What is in the way, and what helps."""

    says: str
    todo: str


def check(wanted: Path, *, is_file: bool = False) -> None:
    """Refuse a place that is, or is below, something which keeps a folder (or a file) from being there.

    Raises:
        StorageError: says what it is, and how it is removed.
    """
    if found := obstacle(wanted, is_file=is_file):
        raise StorageError(
            f"{found.says}.", safe="nothing was changed", next_step=f"{found.todo}; or give another --workdir"
        )


def obstacle(wanted: Path, *, is_file: bool = False) -> Obstacle | None:
    """What keeps `wanted` from being a folder (or a file), now or once it is made; None when nothing does."""
    for place in (wanted, *wanted.parents):
        if not os.path.lexists(place):
            continue  # the folder that it would be made in is looked at next
        try:
            mode = place.stat().st_mode
        except OSError as error:
            return _unreadable(place, error)
        if is_file and place is wanted:
            return None if stat.S_ISREG(mode) else _another_kind(place, "file")
        return None if stat.S_ISDIR(mode) else _another_kind(place, "folder")
    return None


def _another_kind(place: Path, wanted: str) -> Obstacle:
    there = Path(os.path.realpath(place))
    is_now = "folder" if there.is_dir() else "file"
    return Obstacle(f"{there} is not a {wanted}", f"move that {is_now} to another name, and run the same command again")


def _unreadable(place: Path, error: OSError) -> Obstacle:
    if not place.is_symlink() or error.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
        return Obstacle(f"{place} cannot be read: {error.strerror}", "fix its permissions so that you can read it")
    remove = f"remove the link: {'del' if os.name == 'nt' else 'rm'} {quoted(place)}"
    if error.errno == errno.ELOOP:
        return Obstacle(f"{place} is a link that leads back to itself", remove)
    there = os.path.realpath(place)
    return Obstacle(
        f"{place} is a link to {there}, which is not there", f"mount the disk that {there} was on, or {remove}"
    )
