"""A training and its store: what a save collects, and how a resume puts it back.

Knows what goes into a checkpoint; when to save is the callbacks' business, how bytes reach the disk the store's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, ReplayCommit
from kaggle_manager.checkpoints.replay_log import ReplayLog
from kaggle_manager.errors import CheckpointIncompatible
from kernels.rl_training import exact_state, replay_rows
from kernels.rl_training.exact_state import Phase, Training
from kernels.rl_training.origin import Journey, Origin, state_bytes
from kernels.rl_training.session_clock import SessionClock
from kernels.rl_training.settings import TrainingSettings


@dataclass
class Checkpointer:
    """Saves one training into one store.

    Attributes:
        newest: the newest checkpoint; None before the first save of a run from zero.
        count: checkpoints written in this session.
        seconds: time the training stood still for them.
    """

    settings: TrainingSettings
    store: CheckpointStore
    training: Training
    journey: Journey
    origin: Origin
    clock: SessionClock
    identity: Mapping[str, Any]
    newest: Checkpoint | None = None
    count: int = 0
    seconds: float = 0.0
    _common: dict[str, Any] = field(init=False)
    _replay: ReplayLog | None = field(init=False)

    def __post_init__(self) -> None:
        self.newest = self.origin.checkpoint
        self._replay = replay_rows.open_log(self.training.model, self.store.tree.replay)
        self._common = {
            "target": self.settings.total,
            "lineage": self.settings.lineage,
            "bundle_sha256": self.settings.bundle_sha256,
            "identity": dict(self.identity),
        }

    @property
    def step(self) -> int:
        return self.training.model.num_timesteps

    def restore(self, checkpoint: Checkpoint) -> None:
        """Before `learn()`: networks, replay rows, and the first phase of the rest.

        Raises:
            CheckpointIncompatible: the model in the checkpoint is not of this shape.
            CheckpointCorrupt: a file changed since it was verified.
            SimulationDiverged: everything is restored but the environments.
        """
        exact_state.check_complete(self.origin.items)
        try:
            exact_state.load_parameters(self.training.model, checkpoint.read_model())
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointIncompatible(
                f"The model of step {checkpoint.step} does not fit the one configured now: {error}",
                safe="the checkpoint was not touched.",
                next_step="give back the settings it was trained with, or start again with --fresh.",
            ) from error
        if self._replay is not None and checkpoint.manifest.replay is not None:
            self._replay.load(checkpoint.manifest.replay, replay_rows.arrays(self.training.model), verified=True)
        exact_state.restore(self.training, self.origin.items, Phase.BEFORE)

    def begin(self) -> None:
        """In the first rollout start: put back what `learn()` has disturbed on its way there."""
        exact_state.restore(self.training, self.origin.items, Phase.AT_START)

    def save(self) -> None:
        """Commit the training as it is now as the newest checkpoint.

        Raises:
            StorageError: the disk refused; the checkpoints that were there still load.
        """
        started = time.monotonic()
        self.newest = self.store.save_latest(
            step=self.step,
            model=exact_state.model_bytes(self.training.model),
            state=state_bytes(self.journey, exact_state.collect(self.training)),
            replay=self._append_rows(),
            exact=self.journey.describe(),
            metrics={"training_seconds": round(self.clock.elapsed(), 3)},
            **self._common,
        )
        seconds = time.monotonic() - started
        self.count += 1
        self.seconds += seconds
        self.clock.saved(seconds)

    def save_best(self, step: int, score: float) -> None:
        """Commit the model as the best so far."""
        self.store.save_best(score=score, step=step, model=exact_state.model_bytes(self.training.model), **self._common)

    def save_final(self) -> Checkpoint:
        """Write the final model, and the replay buffer the way stock Stable-Baselines3 reads it."""
        tree, model = self.store.tree, self.training.model
        files = {tree.final_model_name: exact_state.model_bytes(model)}
        buffer = replay_rows.buffer_of(model)
        if buffer is not None:
            stream = io.BytesIO()
            model.save_replay_buffer(stream)  # type: ignore[attr-defined]
            files[tree.final_replay_name] = stream.getvalue()
        return self.store.save_final(
            step=self.step,
            files=files,
            certificate=exact_state.certify(self.training)["all"],
            exact=self.journey.describe(),
            **self._common,
        )

    def _append_rows(self) -> ReplayCommit | None:
        if self._replay is None:
            return None
        model = self.training.model
        return self._replay.append(replay_rows.arrays(model), rows=replay_rows.rows_written(model))
