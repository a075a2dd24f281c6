"""Everything committed in a training tree, as a flat list of files: what travels between machines.

Promises: only committed content is listed, under its final names, however the session that wrote it ended; what is read
of it matches the manifest, and is never whole in memory; damage is named by file.
Never does: change the tree, list quarantine or leftovers, or follow a symbolic link.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints import atomic_slot, index, replay_files
from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.atomic_slot import Content, Slot
from kaggle_manager.checkpoints.contents import BLOCK
from kaggle_manager.checkpoints.layout import TrainingTree, inside
from kaggle_manager.checkpoints.manifest import Manifest
from kaggle_manager.errors import CheckpointCorrupt, CheckpointNotFound, OutputDamaged


class Reader:
    """A file that is read once, from its beginning to its end, and hashed on the way.

    Attributes:
        size: bytes it has. left: those that were not read yet.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = self.left = size
        self._file, self._hash = file, hashlib.sha256()

    def read(self, count: int) -> bytes:
        data = self._file.read(min(count, self.left))
        self._hash.update(data)
        self.left -= len(data)
        return data

    def blocks(self) -> Iterator[bytes]:
        while block := self.read(BLOCK):
            yield block

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class Item:
    """One file: its name relative to the tree, where its bytes are, how many of them count, and their SHA-256.

    `sha256` is None for the learning curves and the metadata, which no manifest names.
    """

    name: str
    path: Path
    size: int
    sha256: str | None

    @contextmanager
    def open(self, disk: Disk) -> Iterator[Reader]:
        """Read it in blocks, whole.

        Raises:
            OutputDamaged: it changed since the list was made, or cannot be read.
        """
        try:
            with disk.open(self.path) as file:
                # Behind its size a replay segment may hold rows that are not committed. What no manifest names may
                # have grown: it is taken as it is now.
                size = self.size if self.sha256 is not None else os.fstat(file.fileno()).st_size
                reader = Reader(file, size)
                yield reader
        except OSError as error:
            raise OutputDamaged(f"{self.name} cannot be read: {error}") from error
        if reader.left or self.sha256 not in (None, reader.sha256):
            raise OutputDamaged(f"{self.name} changed while it was being copied.")

    def read(self, disk: Disk) -> bytes:
        """Return the verified bytes, for a file that is known to be small. Raises what `open` raises."""
        with self.open(disk) as reader:
            return b"".join(reader.blocks())


@dataclass(frozen=True)
class FileList:
    """What a tree holds.

    Args:
        head: the manifest of the newest latest checkpoint.
        items: every file, ordered by name.
        damaged: one sentence for each checkpoint that does not verify; it is not in `items`.
    """

    head: Manifest
    items: tuple[Item, ...]
    damaged: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all items together."""
        return sum(item.size for item in self.items)


def list_files(tree: TrainingTree, disk: Disk) -> FileList:
    """Verify a tree and list what is committed in it.

    Raises:
        CheckpointNotFound: when no latest checkpoint is there at all.
        OutputDamaged: when latest checkpoints are there and none of them verifies.
        CheckpointIncompatible: when another version of kaggle-manager wrote one.
        UnsafePath: when a symbolic link or an unsafe name lies in the tree.
    """
    items: dict[str, Item] = {}
    damaged: list[str] = []

    def add(where: Slot) -> Manifest | None:
        try:
            content = atomic_slot.look(where, disk)
            if content is None:
                return None
            replay_files.verify(tree.replay, content.manifest.segments, disk)
        except CheckpointCorrupt as error:
            damaged.append(error.message)
            return None
        items.update({item.name: item for item in _content_items(tree, where, content)})
        for ref in content.manifest.segments:
            item = Item(f"checkpoints/replay/{ref.name}", tree.replay / ref.name, ref.length, ref.sha256)
            if item.name not in items or items[item.name].size < ref.length:  # the newer commits more of it
                items[item.name] = item
        return content.manifest

    found = [add(where) for where in index.latest_slots(tree)]
    latest = [manifest for manifest in found if manifest is not None]
    if not latest:
        if damaged:
            raise OutputDamaged(f"No checkpoint of {tree.root} verifies: {' '.join(damaged)}")
        raise CheckpointNotFound(f"{tree.root} has no checkpoint of {tree.scenario}.", safe="nothing was changed")
    for where in (index.best_slot(tree), index.final_slot(tree)):
        add(where)
    items.update({item.name: item for item in _other_items(tree)})
    ordered = tuple(items[name] for name in sorted(items))
    return FileList(max(latest, key=lambda manifest: manifest.step), ordered, tuple(damaged))


def _content_items(tree: TrainingTree, where: Slot, content: Content) -> list[Item]:
    folder = where.folder.relative_to(tree.root).as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    files = content.manifest.files
    listed = [Item(prefix + entry.name, content.paths[entry.name], entry.size, entry.sha256) for entry in files]
    size, sha256 = len(content.manifest.to_bytes()), content.manifest.sha256
    return [*listed, Item(prefix + where.manifest_name, content.manifest_path, size, sha256)]


def _other_items(tree: TrainingTree) -> list[Item]:
    """List the learning curves and the metadata."""
    found = []
    for path in tree.without_manifest():
        if not path.is_file() and not path.is_symlink():
            continue  # the user's code made something else in the place of the metadata
        name = path.relative_to(tree.root).as_posix()
        found.append(Item(name, inside(tree.root, name), path.stat().st_size, None))
    return found
