"""The second half of a save: from what was captured at one instant to a committed checkpoint. Beside the training.

Never looks at the training itself: its orders have all it needs. `Begin` comes first; `NewRows` are replay rows to be
written before the next save; a `SaveOrder` is one checkpoint.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from kaggle_manager.checkpoints.replay_capture import NewRows
from kaggle_manager.checkpoints.replay_log import ReplayLog
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.trainer.runtime.log_lines import Caution
from kaggle_manager.trainer.sb3 import exact_state, host_pickle
from kaggle_manager.trainer.sb3.model_file import ModelSnapshot, never_changes
from kaggle_manager.trainer.sb3.resume_point import RunRecord, state_bytes


@dataclass(frozen=True)
class Begin:
    """What is the same in every save of a session.

    Attributes:
        manifest: fields of the manifest.
        replay: the replay rows that are there already.
        sources: what its experiment is made of, see `checkpoints.sources`; b"" for none.
    """

    manifest: Mapping[str, Any]
    replay: ReplayCommit | None
    sources: bytes = b""


@dataclass(frozen=True)
class SaveOrder:
    """One training at one instant.

    Attributes:
        step: timesteps trained.
        attributes: of the model; only what may have changed since the order before (see `Changes`).
        parameters, variables, statistics: of the model, as in `ModelSnapshot`.
        record, items: for the `.state` file.
        replay: the replay rows that are not in the log yet; None without a replay buffer.
        metadata: for training_metadata.json.
        manifest: further fields of the manifest.
    """

    step: int
    attributes: bytes
    parameters: dict[str, Any]
    variables: dict[str, Any]
    statistics: bytes
    record: RunRecord
    items: dict[str, Any]
    replay: NewRows | None
    metadata: TrainingMetadata
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Saved:
    """A committed checkpoint, and the seconds it took to write."""

    checkpoint: Checkpoint
    seconds: float


class Changes:
    """Leaves out the attributes of a model that are certainly as they were the last time."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def of(self, values: dict[str, Any]) -> bytes:
        """The other ones, for `pickle.loads`."""
        last, self._last = self._last, values
        changed = {
            name: value
            for name, value in values.items()
            if name not in last or last[name] is not value or not never_changes(value)
        }
        return host_pickle.dumps_attributes(changed)


class CheckpointWriter:
    """Carries out the orders of one training, in their order.

    Args:
        tree: where.
        disk: the effects on files.
        warn: called with a sentence the user should see.
        vouched: as `CheckpointStore`.
    """

    def __init__(
        self, tree: TrainingTree, disk: Disk, warn: Callable[[str], None], vouched: Vouched | None = None
    ) -> None:
        self._store = CheckpointStore(tree, disk=disk, warn=warn, vouched=vouched)
        self._replay = ReplayLog(tree.replay, disk=disk)
        self._disk = disk
        self._caution = Caution("training_metadata.json")
        self._attributes: dict[str, Any] = {}
        self._manifest: Mapping[str, Any] = {}
        self._sources = b""

    def __call__(self, order: Begin | NewRows | SaveOrder) -> Saved | None:
        """Carry out one order; say what was committed by it.

        Raises:
            RowsGone, StorageError, CheckpointCorrupt, LineageMismatch: as `ReplayLog` and `save_latest`.
        """
        match order:
            case Begin():
                self._manifest, self._sources = order.manifest, order.sources
                if order.replay is not None:
                    self._replay.resume(order.replay)
            case NewRows():
                self._replay.write(order)
            case SaveOrder():
                return self._save(order)
        return None

    def _save(self, order: SaveOrder) -> Saved:
        begun = time.monotonic()
        self._attributes.update(pickle.loads(order.attributes))  # first: if this save fails, the next one needs them
        replay = None if order.replay is None else self._replay.write(order.replay)
        model = ModelSnapshot(self._attributes, order.parameters, order.variables, order.statistics)
        parameters = {**model.parameters, **model.variables}
        digests = exact_state.or_none(lambda: exact_state.digests(order.items, parameters))
        files = {**model.files(), "state": state_bytes(order.record, order.items)}
        checkpoint = self._store.save_latest(
            step=order.step,
            files=files | ({"sources": self._sources} if self._sources else {}),
            replay=replay,
            certificate=digests.get("all", ""),
            **self._manifest,
            **order.manifest,
        )
        with self._caution:
            write_metadata(self._store.tree.metadata, order.metadata, disk=self._disk)
        return Saved(checkpoint, time.monotonic() - begun)
