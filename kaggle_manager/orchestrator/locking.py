"""A run, held by one command alone: the lock is its training tree's, so other runs go on beside it.

What runs share needs no lock of theirs: the journal is a database, downloads and uploads have a folder for each run, a
kernel and a dataset are named after theirs, and how many sessions run at once is for the platform to say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kaggle_manager.checkpoints.atomic_swap import check_place
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import StorageError
from kaggle_manager.sections.project import STATE_FOLDER
from kaggle_manager.system.place import check


@contextmanager
def exclusive_lock(config: RunConfig) -> Iterator[None]:
    """Hold the run of `config`, by its training tree, for this process alone.

    Raises:
        Busy: another command holds it.
        StorageError: the folders are none or cannot be written, or their file system has no locks.
    """
    check(config.state)
    check_place(config.tree)
    try:
        for folder in (config.state, config.tree.parent):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass  # refused here in a moment, not after hours of a session
        if config.state.name == STATE_FOLDER and not (ignored := config.state / ".gitignore").exists():
            ignored.write_text("*\n", encoding="utf-8")  # gigabytes, and the key of the local Kaggle
    except OSError as error:
        raise StorageError(
            f"The folder {error.filename or config.state} cannot be written: {error.strerror or error}.",
            safe="nothing was started",
            next_step="make it writable, or choose another with --workdir",
        ) from error
    with hold_tree(config.tree):
        yield
