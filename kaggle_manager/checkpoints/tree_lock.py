"""One program at a time in one training tree.

Two trainers in one tree would overwrite each other's replay rows and rotate each other's checkpoints away. The lock
lies beside the tree, so it outlives a tree that is swapped, and the operating system drops it when its holder dies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaggle_manager.errors import Busy


@contextmanager
def hold_tree(tree: Path) -> Iterator[None]:
    """Hold the training tree at `tree` for this process.

    Raises:
        Busy: another program works in it.
        OSError: the folder refuses a lock file.
    """
    tree.parent.mkdir(parents=True, exist_ok=True)
    with (tree.parent / f".{tree.name}.lock").open("a+") as handle:
        if not _try(handle.fileno()):
            raise Busy(
                f"Another program is training in {tree}, or restoring into it.",
                safe="nothing was started, and nothing of it was touched",
                next_step="wait for it, or use another --workdir",
            )
        yield


def _try(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
