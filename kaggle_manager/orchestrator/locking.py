"""The state folder and the training tree, held by one command alone.

The locks are the operating system's: they are gone with their holder, however it died.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import Busy, StorageError


@contextmanager
def exclusive_lock(config: RunConfig) -> Iterator[None]:
    """Hold the state folder and the training tree for this process alone.

    Raises:
        Busy: another command holds one of them.
        StorageError: the folders cannot be written.
    """
    try:
        for folder in (config.state, config.tree.parent):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass  # refused here in a moment, not after hours of a session
        lock = FileLock(config.state / "manager.lock")  # the operating system drops it when its holder dies
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Busy(
            f"Another kaggle-manager is working in {config.state}.",
            safe="nothing was started",
            next_step="wait for it, or use another --workdir",
        ) from error
    except OSError as error:
        place = Path(error.filename or config.state)
        file = no_folder(place) if isinstance(error, FileExistsError | NotADirectoryError) else None
        why = f"{file} is not a folder" if file else error.strerror or error
        raise StorageError(
            f"The folder {place} cannot be written: {why}.",
            safe="nothing was started",
            next_step="give another --workdir" if file else "make it writable, or choose another with --workdir",
        ) from error
    try:
        with hold_tree(config.tree):
            yield
    finally:
        lock.release()


def no_folder(wanted: Path) -> Path | None:
    """What is in the place of a folder, or of one above it, and is none; None when nothing is."""
    there = next(place for place in (wanted, *wanted.parents) if place.exists())
    return None if there.is_dir() else there
