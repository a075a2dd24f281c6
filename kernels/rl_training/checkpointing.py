"""A training and its store: what a save collects, and how a resume puts it back.

A save takes its copy at a rollout start. Another thread writes the replay rows and has another process write the rest
(see `worker_process`) while the training goes on; the next save waits for both. Replay rows are not even copied: a row
stays as it is until the ring comes round, and the save is waited for before that. Knows what goes into a checkpoint;
when to save is the callbacks' business, how bytes reach the disk the store's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Disk, TrainingMetadata, write_metadata
from kaggle_manager.checkpoints.replay_log import Plan, ReplayLog
from kaggle_manager.errors import CheckpointIncompatible
from kernels.rl_training import exact_state, model_file, replay_rows
from kernels.rl_training.background_writer import BackgroundWriter
from kernels.rl_training.checkpoint_writer import Changes, SaveOrder
from kernels.rl_training.exact_state import Phase, Training
from kernels.rl_training.origin import Journey, Origin, state_bytes
from kernels.rl_training.session_clock import SessionClock
from kernels.rl_training.settings import TrainingSettings


@dataclass
class Checkpointer:
    """Saves one training into one store.

    Attributes:
        write: commits what was captured; usually a `WorkerProcess`.
        newest: the newest checkpoint on disk; None before the first save of a run from zero.
        count: checkpoints written in this session.
        stall_s: seconds the training stood still for them.
        certificate: digests of the finished training, by item; empty until the final model is written.
    """

    settings: TrainingSettings
    store: CheckpointStore
    training: Training
    journey: Journey
    origin: Origin
    clock: SessionClock
    identity: Mapping[str, Any]
    metadata: Callable[[int], TrainingMetadata]
    disk: Disk
    write: Callable[[SaveOrder], Checkpoint]
    newest: Checkpoint | None = None
    count: int = 0
    stall_s: float = 0.0
    certificate: dict[str, str] = field(default_factory=dict)
    _common: dict[str, Any] = field(init=False)
    _replay: ReplayLog | None = field(init=False)
    _plan: Plan | None = None
    _writer: BackgroundWriter = field(default_factory=BackgroundWriter)
    _changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        self.newest = self.origin.checkpoint
        self._replay = replay_rows.open_log(self.training.model, self.store.tree.replay, self.disk)
        self._common = {
            "target": self.settings.total,
            "lineage": self.settings.lineage,
            "bundle_sha256": self.settings.bundle_sha256,
            "identity": dict(self.identity),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Before `learn()`: networks, replay rows, and the first phase of the rest.

        Raises:
            CheckpointIncompatible: the model in the checkpoint is not of this shape.
            CheckpointCorrupt: a file changed since it was verified.
            SimulationDiverged: everything is restored but the environments.
        """
        exact_state.check_complete(self.origin.items)
        try:
            model_file.load_parameters(self.training.model, checkpoint.read_model())
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
        """Begin to commit the training as it is now; the save before is on disk when this returns.

        Raises:
            StorageError: the disk refused the save before; the checkpoints before that still load.
        """
        started = time.monotonic()
        self.join()
        model, step = self.training.model, self.training.model.num_timesteps
        copied = model_file.snapshot(model)
        state = state_bytes(self.journey, exact_state.collect(self.training))
        if self._replay is not None:
            self._plan = self._replay.plan(replay_rows.arrays(model), rows=replay_rows.rows_written(model))
        metadata = self.metadata(step)
        manifest = {
            **self._common,
            "exact": self.journey.describe(),
            "metrics": {"training_seconds": metadata.training_seconds},
        }

        def write() -> None:
            begun = time.monotonic()
            replay = self._replay.write(self._plan) if self._replay is not None and self._plan is not None else None
            changed = replace(copied, data=self._changes.of(copied.data))
            self.newest = self.write(SaveOrder(step, changed, state, replay, metadata, manifest))
            self.clock.saved(stall + time.monotonic() - begun)

        stall = time.monotonic() - started
        self._writer.start(write)
        self.count += 1
        self.stall_s += stall

    def before_row(self) -> None:
        """Called before each new replay row: waits for a save that must not see it, and raises a save's error."""
        if self._plan is not None and self._writer.busy:
            if replay_rows.rows_written(self.training.model) >= self._plan.expires_at:
                self.join()
            else:
                self._writer.look()

    def join(self) -> None:
        """Wait until the save under way is on disk.

        Raises:
            StorageError: it could not be written; the checkpoints before it still load.
        """
        self._writer.join()

    def close(self) -> None:
        """End the writing thread, after the save under way."""
        self._writer.close()

    def save_best(self, step: int, score: float) -> None:
        """Commit the model as the best so far."""
        self.join()
        data = model_file.snapshot(self.training.model).to_bytes()
        self.store.save_best(score=score, step=step, model=data, **self._common)

    def save_final(self) -> Checkpoint:
        """Write the final model, and the replay buffer the way stock Stable-Baselines3 reads it."""
        self.join()
        tree, model = self.store.tree, self.training.model
        files = {tree.final_model_name: model_file.snapshot(model).to_bytes()}
        if replay_rows.buffer_of(model) is not None:
            stream = io.BytesIO()
            model.save_replay_buffer(stream)  # type: ignore[attr-defined]
            files[tree.final_replay_name] = stream.getvalue()
        self.certificate = exact_state.certify_whole(self.training)
        final = self.store.save_final(
            step=model.num_timesteps,
            files=files,
            certificate=self.certificate["all"],
            exact={**self.journey.describe(), "items": self.certificate},
            **self._common,
        )
        write_metadata(tree.metadata, self.metadata(model.num_timesteps), disk=self.disk)
        return final
