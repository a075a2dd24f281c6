"""One checkpoint as its users see it: the step, the paths, the verified bytes.

Promises: `read` returns exactly the bytes that the manifest names, or raises.
Never does: unpickle or open what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints.contents import Content, Shared
from kaggle_manager.checkpoints.layout import USABLE, TrainingTree
from kaggle_manager.checkpoints.manifest import CommittedFile, Manifest
from kaggle_manager.checkpoints.sources import Sources, from_bytes
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.system.files import regular, sha256_bytes


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were verified when it was found.

    Args:
        manifest: what it consists of.
        tree: the tree it lies in.
        paths: where each of its files lies now, by its name in the manifest.
    """

    manifest: Manifest
    tree: TrainingTree
    paths: Mapping[str, Path]

    @property
    def step(self) -> int:
        """Environment steps trained so far, over all sessions."""
        return self.manifest.step

    @property
    def model_path(self) -> Path:
        """The model; of Stable-Baselines3 a .zip, which `DQN.load()` and its like open."""
        return self.path("model")

    def path(self, role: str) -> Path:
        """Where a file lies.

        Args:
            role: `model`, `state`, `sources`, `statistics`, `replay_buffer`, or the path of a script's own file.

        Raises:
            CheckpointCorrupt: it has no such file.
        """
        return self.paths[self._file(role).name]

    def read(self, role: str) -> bytes:
        """Return the bytes of a file, verified again: only these may be unpickled.

        Args:
            role: as for `path`.

        Raises:
            CheckpointCorrupt: it has no such file; or the file is missing, cannot be read, or changed since it was
                found.
        """
        path, expected = self.path(role), self._file(role).sha256
        try:
            with open(path, "rb", opener=regular) as file:
                data = file.read()
        except OSError as error:
            raise CheckpointCorrupt(f"{path} cannot be read: {error.strerror}.") from error
        if sha256_bytes(data) != expected:
            raise CheckpointCorrupt(f"{path} changed after it was verified.")
        return data

    def usable(self) -> dict[str, Content]:
        """What the policy can be used with, as the content of another checkpoint of the same tree, by role."""
        return {file.role: self.shared(file.role) for file in self.manifest.files if file.role in USABLE}

    def shared(self, role: str) -> Shared:
        """A file as the content of another checkpoint's, of the same tree: see `contents.Shared`.

        Args:
            role: as for `path`.

        Raises:
            CheckpointCorrupt: it has no such file.
        """
        file = self._file(role)
        return Shared(self.path(role), file.size, file.sha256)

    def sources(self) -> Sources:
        """The sources of its environment and reward, to show what has changed since; {} where it has none."""
        try:
            return from_bytes(self.read("sources"))
        except CheckpointCorrupt:
            return {}

    def _file(self, role: str) -> CommittedFile:
        if (file := self.manifest.file(role)) is None:
            raise CheckpointCorrupt(f"The {self.manifest.kind} checkpoint of step {self.step} has no file {role}.")
        return file
