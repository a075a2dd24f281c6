"""The second half of a save: from what was captured at one instant to a committed checkpoint. Runs beside the training.

Never looks at the training itself: a `SaveOrder` has all it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kaggle_manager.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Disk,
    ReplayCommit,
    TrainingMetadata,
    TrainingTree,
    write_metadata,
)
from kernels.rl_training import exact_state
from kernels.rl_training.model_file import ModelSnapshot
from kernels.rl_training.origin import read_state


@dataclass(frozen=True)
class SaveOrder:
    """One training at one instant.

    Attributes:
        step: timesteps trained.
        model: its `data` has only what changed since the order before (see `Changes`).
        state: the `.state` file.
        replay: the replay rows, which are on the medium already.
        metadata: for training_metadata.json.
        manifest: further fields of the manifest.
    """

    step: int
    model: ModelSnapshot
    state: bytes
    replay: ReplayCommit | None
    metadata: TrainingMetadata
    manifest: Mapping[str, Any]


class Changes:
    """Reduces dictionaries to the values that are other objects than the last time."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def of(self, values: dict[str, Any]) -> dict[str, Any]:
        changed = {name: value for name, value in values.items() if self._last.get(name, self) is not value}
        self._last = values
        return changed


class CheckpointWriter:
    """Carries out the orders of one training, in their order.

    Args:
        tree: where.
        disk: the effects on files.
        warn: told what a person should know.
    """

    def __init__(self, tree: TrainingTree, disk: Disk, warn: Callable[[str], None]) -> None:
        self._store = CheckpointStore(tree, disk=disk, warn=warn)
        self._disk = disk
        self._data: dict[str, Any] = {}

    def __call__(self, order: SaveOrder) -> Checkpoint:
        """Commit the checkpoint, then write the metadata.

        Raises:
            StorageError, CheckpointCorrupt, LineageMismatch: as `CheckpointStore.save_latest`.
        """
        self._data.update(order.model.data)
        model = replace(order.model, data=self._data)
        # The items once more, as they were: those of the training have gone on.
        items = read_state(order.state).items
        certificate = exact_state.certify(items, {**model.parameters, **model.variables})
        checkpoint = self._store.save_latest(
            step=order.step,
            model=model.to_bytes(),
            state=order.state,
            replay=order.replay,
            certificate=certificate["all"],
            **order.manifest,
        )
        write_metadata(self._store.tree.metadata, order.metadata, disk=self._disk)
        return checkpoint
