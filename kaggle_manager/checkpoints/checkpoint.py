"""One checkpoint as its users see it: the step, the paths, the verified bytes.

Promises: `read_model` and `read_state` return exactly the bytes that the manifest names, or raise.
Never does: unpickle or open what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import regular, sha256_bytes
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.checkpoints.manifest import Manifest
from kaggle_manager.checkpoints.sources import Sources, from_bytes
from kaggle_manager.errors import CheckpointCorrupt


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
        """The Stable-Baselines3 model (.zip); `DQN.load()` and its like open it."""
        return self._path(".zip")

    @property
    def state_path(self) -> Path:
        """Everything else an exact resume needs (.state); only a latest checkpoint has it."""
        return self._path(".state")

    def read_model(self) -> bytes:
        """Return the model's bytes, verified again.

        Raises:
            CheckpointCorrupt: the file is missing, cannot be read, or changed since it was found.
        """
        return self._read(".zip")

    def read_state(self) -> bytes:
        """Return the state's bytes, verified again: only these may be unpickled.

        Raises:
            CheckpointCorrupt: the file is missing, cannot be read, or changed since it was found.
        """
        return self._read(".state")

    def sources(self) -> Sources:
        """The sources of its environment and reward, to show what has changed since; {} where it has none."""
        try:
            return from_bytes(self._read(".sources"))
        except CheckpointCorrupt:
            return {}

    def _path(self, suffix: str) -> Path:
        for name, path in self.paths.items():
            if name.endswith(suffix):
                return path
        raise CheckpointCorrupt(f"The {self.manifest.kind} checkpoint of step {self.step} has no {suffix} file.")

    def _read(self, suffix: str) -> bytes:
        path = self._path(suffix)
        expected = next(entry.sha256 for entry in self.manifest.files if self.paths[entry.name] == path)
        try:
            with open(path, "rb", opener=regular) as file:
                data = file.read()
        except OSError as error:
            raise CheckpointCorrupt(f"{path} cannot be read: {error.strerror}.") from error
        if sha256_bytes(data) != expected:
            raise CheckpointCorrupt(f"{path} changed after it was verified.")
        return data
