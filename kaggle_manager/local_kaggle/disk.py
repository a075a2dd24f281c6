"""Small promises about files: JSON that is never half written, and locks that die with their holder.

Never deletes anything.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from kaggle_manager.errors import StorageError
from kaggle_manager.system import file_lock


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


def hold(path: Path, *, wait_s: float = 0.0) -> AbstractContextManager[bool]:
    """Hold the lock file `path`, made for its owner alone; see `file_lock.hold`."""
    return file_lock.hold(path, wait_s=wait_s, mode=0o600)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file `path`."""
    if not path.exists():
        return False
    with hold(path) as free:
        return not free
