"""A folder to work in, removed with its process: one that is killed leaves its own, and the next process removes that.

Standard library only: this module travels into the session.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kaggle_manager.errors import StorageError
from kaggle_manager.system.file_lock import hold

_HELD, _MADE_WITHIN_S = "held.lock", 60.0


@contextmanager
def scratch_folder(prefix: str, *, within: Path | None = None) -> Iterator[Path]:
    """A folder held by this process inside the block and removed at its end; of what is in it, `held.lock` is its own.

    Args:
        prefix: of its name; begins with `km_`.
        within: where it is made; None for this machine's temporary files.
    """
    within = within or Path(tempfile.gettempdir())
    _remove_left(within)
    made = tempfile.TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True)
    with made as name, ExitStack() as stack:
        held = Path(name, _HELD)
        with suppress(StorageError):  # a file system without locks: nothing is removed there
            stack.enter_context(hold(held))
            held.write_bytes(_machine())
        yield Path(name)


def _remove_left(within: Path) -> None:
    """Remove what processes of this machine that were killed have left: nobody holds those folders any more."""
    for held in within.glob(f"km_*/{_HELD}"):
        with suppress(OSError, StorageError):
            # One that is made now is not held yet; and a lock may be unknown to other machines that share the disk.
            if time.time() - held.stat().st_mtime > _MADE_WITHIN_S and held.read_bytes() == _machine():
                with hold(held) as is_left:
                    if is_left:
                        shutil.rmtree(held.parent, ignore_errors=True)


def _machine() -> bytes:
    return platform.node().encode()
