"""Which checkpoints hold the bytes their manifests vouch for, read in the background and remembered until they change.

Promises: nobody waits for a hash: until the bytes were read, a checkpoint is `not read`; a verdict is given only for
the very files it was made of; a tree that changed while it was read is read again.
Never does: move, mend or judge anything in the tree.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.trees.inspect import CheckpointView, look_at

Key = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Looked:
    """The checkpoints of a tree. `verified_at`: when their bytes were read, seconds since the epoch; None: not yet."""

    checkpoints: tuple[CheckpointView, ...]
    verified_at: float | None = None


class Verifier:
    """Reads trees one after the other, in one thread that ends with the program."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[Path, tuple[Key, Looked]] = {}
        self._asked: queue.SimpleQueue[TrainingTree] = queue.SimpleQueue()
        self._pending: set[Path] = set()
        threading.Thread(target=self._read_for_ever, name="verifier", daemon=True).start()

    def look(self, tree: TrainingTree) -> Looked:
        """What is known of the tree now; its bytes are read later when that was not done since it changed."""
        key = _key(tree)
        known = self._known.get(tree.root)
        if known is not None and known[0] == key:
            return known[1]
        if tree.root not in self._pending:
            self._pending.add(tree.root)
            self._asked.put(tree)
        return Looked(tuple(look_at(tree, verify=False)))

    def verify(self, tree: TrainingTree) -> Looked:
        """Read every byte now."""
        key = _key(tree)
        looked = Looked(tuple(look_at(tree)), self._clock())
        if _key(tree) == key:
            self._known[tree.root] = (key, looked)
        return looked

    def _read_for_ever(self) -> None:
        while True:
            tree = self._asked.get()
            try:
                self.verify(tree)
            except (OSError, KaggleManagerError):  # it went while it was read: the next look asks again
                pass
            finally:
                self._pending.discard(tree.root)


def _key(tree: TrainingTree) -> Key:
    """Names, sizes and times of all files a manifest vouches for."""
    found = []
    for folder in (tree.root, tree.checkpoints, tree.replay, tree.best_folder):
        for path in sorted(folder.glob("*")):
            try:
                stat = path.stat()
            except OSError:
                continue
            if path.is_file():
                found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(found)
