"""Which checkpoints verify against their manifests, read in the background and remembered until a file changes.

Promises: no request waits for a hash: until its bytes were read, a checkpoint is `not read`; a result is shown only for
the very files it was made of; a tree that changed while it was read is read again.
Never does: move, repair or judge anything in the tree.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from kaggle_manager.checkpoints import TrainingTree, index
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.trees.inspect import CheckpointView, look_at

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Looked:
    """The checkpoints of a tree. `verified_at`: when their bytes were read, seconds since the epoch; None: not yet."""

    checkpoints: tuple[CheckpointView, ...]
    verified_at: float | None = None


class Verifier:
    """Reads trees one after the other, in one thread that ends with the program."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[Path, tuple[Stamp, Looked]] = {}
        self._asked: queue.SimpleQueue[TrainingTree] = queue.SimpleQueue()
        self._pending: set[Path] = set()
        threading.Thread(target=self._read_for_ever, name="verifier", daemon=True).start()

    def look(self, tree: TrainingTree) -> Looked:
        """What is known of the tree now; its bytes are read later when that was not done since it changed."""
        now = _stamp(tree)
        known = self._known.get(tree.root)
        if known is not None and known[0] == now:
            return known[1]
        if tree.root not in self._pending:
            self._pending.add(tree.root)
            self._asked.put(tree)
        return Looked(tuple(look_at(tree, verify=False)))

    def verify(self, tree: TrainingTree) -> Looked:
        """Read every byte now."""
        now = _stamp(tree)
        looked = Looked(tuple(look_at(tree)), self._clock())
        if _stamp(tree) == now:
            self._known[tree.root] = (now, looked)
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


def _stamp(tree: TrainingTree) -> Stamp:
    """Of all files that manifests can name."""
    folders = (tree.root, tree.checkpoints, tree.replay, tree.best_folder)
    return stamp(path for folder in folders for path in (*folder.glob("*"), *index.own_files(folder)))


def stamp(paths: Iterable[Path]) -> Stamp:
    """Path, size and time of change (ns) of each file; it is another one once a file has changed."""
    found = []
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # it went meanwhile
            about = path.stat()
            if S_ISREG(about.st_mode):
                found.append((str(path), about.st_size, about.st_mtime_ns))
    return tuple(found)
