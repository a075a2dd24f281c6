"""Whose checkpoints may run code here: the one list of those that are vouched for, and the one answer.

A checkpoint holds pickles, which run whatever they say when they are opened. Its seal proves that nothing of it has
changed, not who made it: anyone can seal. So the state folder lists, beside the journal, the manifests of checkpoints
that were made here, that a session of this journal brought, or that the user vouched for. A manifest's SHA-256 covers
every byte of its checkpoint, so a copy is known again wherever it comes back from, and a changed one is not.

Promises: what is vouched for is on the medium when `add` returns, so a trainer that calls it before it commits is never
refused its own checkpoint.
Never does: open a checkpoint, or keep anyone from reading one as data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kaggle_manager.checkpoints import index
from kaggle_manager.checkpoints.atomic_io import Disk, storage_errors
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.checkpoints.manifest import Manifest
from kaggle_manager.errors import UntrustedTree

FILE_NAME = "vouched.txt"
"""Beside the journal, not in it: a trainer without a manager has the list as well, and it outlives a lost journal."""

MADE_HERE, BY_USER = "made on this machine", "trusted by the user"
_LINE = re.compile(r"([0-9a-f]{64}) (.+)")


class Vouched:
    """The list of one state folder.

    Args:
        state: the folder; made when missing.
        disk: the effects on files.
    """

    def __init__(self, state: Path, *, disk: Disk | None = None) -> None:
        self._path, self._disk = state / FILE_NAME, disk or Disk()

    def who(self, manifest: Manifest) -> str:
        """Who vouches for a checkpoint, in words; '' when nobody does.

        Raises:
            StorageError: the disk refuses to read the list.
        """
        with storage_errors(f"Reading {self._path}", safe="nothing was changed"):
            if not self._path.is_file():
                return ""
            with self._disk.open(self._path) as lines:  # one line a save for years: more than is read at once
                for line in lines:  # its first entry is the one that is named
                    found = _LINE.fullmatch(line.decode("utf-8", errors="replace").rstrip("\n"))
                    if found and found[1] == manifest.sha256:
                        return found[2]
        return ""

    def add(self, manifests: Iterable[Manifest], who: str) -> None:
        """Vouch for checkpoints.

        Raises:
            StorageError: the disk refused.
        """
        # Each begins with a line end as well, for a line that was cut must not swallow it.
        text = "".join(f"\n{manifest.sha256} {who}\n" for manifest in manifests)
        if text:
            with storage_errors(f"Writing {self._path}", safe="every checkpoint is untouched"):
                self._disk.make_folder(self._path.parent)
                self._disk.append(self._path, text.encode())

    def require(self, manifest: Manifest, *, tree: Path, doing: str, again: str, trust: bool = False) -> str:
        """Who vouches for a checkpoint that is about to run code; with `trust` the user does from now on.

        Args:
            tree: where it lies.
            doing: what would open it, as in "The next session".
            again: the command that opens it all the same.

        Raises:
            UntrustedTree: nobody does.
            StorageError: the disk refused.
        """
        if who := self.who(manifest):
            return who
        if not trust:
            raise UntrustedTree(
                f"The checkpoint of step {manifest.step:,} in {tree} is not trusted here: it was not made on this "
                f"machine, and no session that was started here brought it. {doing} would open the pickles in its "
                ".state and model files, which can run any code.",
                safe="nothing of it was opened; as data it can be listed, verified, compared, exported and archived",
                next_step=f"if you trust who made it, {again}",
            )
        self.add([manifest], BY_USER)
        return BY_USER


def manifests_of(tree: TrainingTree, disk: Disk | None = None) -> Iterator[Manifest]:
    """The manifests of the latest checkpoints that a tree shows; no other file is looked at.

    Raises:
        CheckpointIncompatible: another version of kaggle-manager wrote one.
        OSError: from the disk.
    """
    disk = disk or Disk()
    for where in index.latest_slots(tree):
        for path in (where.pending_path, where.manifest_path):
            if (manifest := index.read_manifest(path, disk)) is not None:
                yield manifest
