"""Small promises about files: JSON that is never half written, and locks that die with their holder.

Standard library only. Never deletes anything.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kaggle_manager.errors import StorageError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def make_folder(root: Path) -> None:
    """Make the folder of a local Kaggle, for its owner's eyes only.

    Raises:
        StorageError: it cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise StorageError(
            f"The local Kaggle cannot use the folder {root}: {error.strerror}.",
            safe="Nothing was started.",
            next_step="Name a folder you can write to.",
        ) from error


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Replace `path` by `value` as JSON: a reader sees the old text or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.touch(mode=mode)
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None when there is no such file.

    Raises:
        json.JSONDecodeError: the file is not JSON (nobody here writes such a file).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return json.loads(text)


@contextmanager
def hold(path: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock file `path` inside the block; yields False when another process kept it for `wait_s` seconds.

    The operating system frees the lock when its holder dies, however it dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        locked = _try_lock(descriptor)
        while not locked and time.monotonic() < deadline:
            time.sleep(0.02)
            locked = _try_lock(descriptor)
        yield locked
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file `path`."""
    if not path.exists():
        return False
    with hold(path) as free:
        return not free
