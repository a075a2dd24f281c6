"""A training and its store: what a save collects, and how a resume puts it back.

A save hands over what there is at a rollout start, and another process writes it (see `worker_process`) while the
training continues; the next save waits for it. Knows what goes into a checkpoint; when to save is the callbacks'
business, how bytes reach the disk the store's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Disk, TrainingMetadata, write_metadata
from kaggle_manager.checkpoints.contents import Content, Streamed
from kaggle_manager.checkpoints.replay_capture import NewRows
from kaggle_manager.checkpoints.replay_log import RowsGone
from kaggle_manager.checkpoints.sources import to_bytes
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.system.files import sha256_bytes
from kaggle_manager.trainer.runtime.log_lines import Caution, warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import divergence, exact_state, model_file, replay_rows, sizes
from kaggle_manager.trainer.sb3.checkpoint_writer import Begin, Changes, Saved, SaveOrder
from kaggle_manager.trainer.sb3.evaluation import statistics_of
from kaggle_manager.trainer.sb3.exact_state import Phase, Training
from kaggle_manager.trainer.sb3.model_copy import ModelCopy
from kaggle_manager.trainer.sb3.model_file import ModelSnapshot
from kaggle_manager.trainer.sb3.pickles import Apart, opened
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, RunRecord
from kaggle_manager.trainer.sb3.training_config import TrainingConfig
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess


@dataclass
class Checkpointer:
    """Saves one training into one store.

    Attributes:
        writer: commits what is captured.
        newest: the newest checkpoint on disk; None before the first save of a run from zero.
        best: the best model on disk of this environment and reward, by which the metadata goes; None for none.
        count: checkpoints written in this session.
        stall_s: seconds the training stood still for them.
        left_out: what the final model goes without, and why; '' for nothing.
        digests: of the finished training, by item; empty until the final model is written, or where it has none.
        environment_changed: the environment in the checkpoint is not put back, for it is another one now.
    """

    config: TrainingConfig
    store: CheckpointStore
    training: Training
    record: RunRecord
    resume_point: ResumePoint
    clock: SessionClock
    identity: Mapping[str, Any]
    metadata: Callable[[int], TrainingMetadata]
    disk: Disk
    writer: WorkerProcess[Begin | NewRows | SaveOrder, Saved | None]
    newest: Checkpoint | None = None
    best: Checkpoint | None = None
    count: int = 0
    stall_s: float = 0.0
    left_out: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    environment_changed: bool = False
    _common: dict[str, Any] = field(init=False)
    _stall_s: float = 0.0
    _step: int | None = None
    _again: bool = False
    _sizes_known: bool = False
    _warned: bool = False
    _rows: replay_rows.WaitingRows = field(init=False)
    _changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        self.newest, self.best = self.resume_point.checkpoint, self.store.best(self.identity)
        if len(model_file.normalisations(self.training.vec_env)) > 1:
            warn(
                "several running normalisations are around the environment: a resume has all of them, but beside a "
                "model lies the outermost alone, for Stable-Baselines3 knows one"
            )
        self._rows = replay_rows.WaitingRows(self.training.model)
        self._common = {
            "target": self.config.total,
            "lineage": self.config.lineage,
            "bundle_sha256": self.config.bundle_sha256,
            "identity": dict(self.identity),
        }
        kept = to_bytes(self.config.sources) if self.config.sources else b""
        self.writer.start(Begin(self._common, self.newest.manifest.replay if self.newest else None, kept))

    def restore(self, checkpoint: Checkpoint) -> dict[str, str]:
        """Before `learn()`: networks, replay rows, and the first phase of the rest.

        Returns:
            what could not be put back, as `exact_state.restore`.

        Raises:
            CheckpointIncompatible: the model in the checkpoint is not of this shape.
            CheckpointCorrupt: a file changed since it was verified.
        """
        exact_state.check_complete(self.resume_point.items, self.training.model)
        with self._of_this_shape(checkpoint):
            model_file.load_parameters(self.training.model, checkpoint.read("model"))
        self._rows.load(checkpoint, self.disk)
        lost = self._restored(Phase.BEFORE)
        if checkpoint.manifest.file("statistics") and (self.environment_changed or "environment" in lost):
            # The environment is another one, and what the policy was shown of it is not.
            with self._of_this_shape(checkpoint):
                model_file.load_statistics(self.training.model, opened(Apart(checkpoint.read("statistics"))))
        return lost

    @contextmanager
    def _of_this_shape(self, checkpoint: Checkpoint) -> Iterator[None]:
        try:
            yield
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointIncompatible(
                f"The model of step {checkpoint.step} does not fit the one configured now: {error}",
                safe="the checkpoint was not touched.",
                next_step="restore the settings it was trained with, or start again with --fresh.",
            ) from error

    def begin(self) -> None:
        """In the first rollout start: put back what `learn()` has disturbed on its way there."""
        self._restored(Phase.AT_START)

    def _restored(self, phase: Phase) -> dict[str, str]:
        items = self.resume_point.items
        if self.environment_changed:
            items = {name: item for name, item in items.items() if name != "environment"}
        lost = exact_state.restore(self.training, items, phase)
        for name, why in lost.items():
            self.record.break_at(self.resume_point.step, f"the {name.replace('_', ' ')} could not be put back ({why})")
        if phase is Phase.AT_START:
            for name in self.training.users.not_restored:
                self.record.break_at(self.resume_point.step, f"the {name} was added or taken out")
        return lost

    def save(self) -> None:
        """Begin to commit the training as it is now; the save before is on disk when this returns.

        Raises:
            Diverged: it is not finite, and was not saved.
            StorageError: the disk refused the save before; the checkpoints before that still load.
        """
        started = time.monotonic()
        self.refuse(divergence.in_losses(self.training.model) or divergence.in_rewards(self.training.model))
        self._hand_over()
        self.join()
        while self._rows.are_too_many:  # those in the log are gone, as the join has found
            self._hand_over()
            self.join()
        step = self.training.model.num_timesteps
        self.record.note_unsaved([*self.training.unsaved.found(), *self.training.users.found()])
        self._warn_of_buffers()
        model = self._finite_snapshot()
        metadata = self.metadata(step)
        order = SaveOrder(
            step=step,
            attributes=self._changes.of(model.data),
            parameters=model.parameters,
            variables=model.variables,
            statistics=model.statistics,
            record=self.record,
            items=exact_state.collect(self.training),
            replay=self._rows.all(),
            metadata=metadata,
            manifest={
                "exact": {**self.record.describe(), "image": self.config.image},
                "metrics": {"training_seconds": metadata.training_seconds},
            },
        )
        self.writer.start(order)
        self._step, self._again = step, False
        self.count += 1
        self._stall_s = time.monotonic() - started
        self.stall_s += self._stall_s

    def _warn_of_buffers(self) -> None:
        if not self._warned and (names := self.training.unsaved.outside()):
            self._warned = True
            warn(
                f"{', '.join(names)}: a buffer registered with persistent=False, and changed by the training. A resume "
                "has it; a model file does not, so evaluations, the best and the final model act without it. Register "
                "it without persistent=False."
            )

    def between_saves(self) -> None:
        """Called at a rollout start: take note of a save that is on disk by now, hand over rows when there are many.

        A save whose earlier rows were gone from the disk is made up for at once: nothing there loads until then.

        Raises:
            Diverged: the losses are not finite.
            StorageError: as `join`; of a save, before the next one comes.
        """
        self.refuse(divergence.in_losses(self.training.model))
        self._note(self._of_the_writer(self.writer.look))
        if self._again:
            self.save()
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Have replay rows written down before the next save."""
        while self._rows.are_too_many:
            self.join()
            self.writer.start(self._rows.some())

    def join(self) -> None:
        """Wait until the save under way is on disk.

        Raises:
            StorageError: it could not be written; the checkpoints before it still load.
        """
        self._note(self._of_the_writer(self.writer.join))

    def finish(self) -> None:
        """As `join`, at the end of a session."""
        self.join()
        if self._again and self._step == self.training.model.num_timesteps:
            self.save()
            self.join()

    def _of_the_writer(self, answer: Callable[[], Saved | None]) -> Saved | None:
        """What the writer says; where it has lost its rows, all of them are given to it anew."""
        try:
            return answer()
        except RowsGone as gone:
            warn(f"{gone.message} All replay rows are written anew, from memory.")
            self._rows, self._again = replay_rows.WaitingRows(self.training.model), True
            return None

    def _note(self, saved: Saved | None) -> None:
        if saved is not None:
            self.newest = saved.checkpoint
            if not self._sizes_known:
                self._sizes_known = True
                rows, kept = sizes.rows_in_the_end(self.training.model, self.config.total), self.config.kept_bytes
                if found := sizes.too_large_for_disk(self.store.tree.root, saved.checkpoint.manifest, rows, kept):
                    warn(f"this training may not end: {found}.")
            self.clock.saved(self._stall_s + saved.seconds, saved.checkpoint.manifest.size)

    def refuse(self, what: str) -> None:
        """Commit nothing more of a training that has diverged; `what` says how, '' that it has not.

        Raises:
            Diverged: it has; the save under way, which is finite, is on disk.
        """
        if what:
            self.join()
            newest = self.newest.step if self.newest else None
            raise divergence.diverged(self.training.model, what, newest)

    def _finite_snapshot(self) -> ModelSnapshot:
        """The model as it is, the one way into a checkpoint.

        Raises:
            Diverged: it is not finite.
        """
        model = model_file.snapshot(self.training.model)
        self.refuse(divergence.in_parameters({**model.parameters, **model.variables}))
        return model

    def copied(self) -> ModelCopy:
        """The model as it is, to be evaluated and perhaps the best.

        Raises:
            Diverged: it is not finite.
        """
        step = self.training.model.num_timesteps
        return ModelCopy.of(self._finite_snapshot(), step, statistics_of(self.training.vec_env))

    def save_best(self, model: ModelCopy, score: float) -> None:
        """Commit a copy as the best so far."""
        self.join()
        stored = self.newest if self.newest is not None and self.newest.step == model.step else None
        files = stored.usable() if stored else model.files()
        self.store.save_best(score=score, step=model.step, files=files, **self._common)
        self.best = self.store.best(self.identity)

    def _usable(self) -> dict[str, Content]:
        """What the policy can be used with, as it is; shared with the newest checkpoint, where that has the same."""
        model, newest = self.training.model, self.newest
        if newest is not None and newest.step == model.num_timesteps:
            statistics = model_file.statistics_of(model)  # inexact resumes show it one observation more
            if newest.manifest.sha256_of("statistics") == (sha256_bytes(statistics) if statistics else ""):
                return newest.usable()
        return self._finite_snapshot().files()

    def save_final(self) -> Checkpoint:
        """Write the final model, and where there is room its replay buffer, as stock Stable-Baselines3 reads them."""
        self.finish()
        tree, model = self.store.tree, self.training.model
        files = self._usable()
        if replay_rows.buffer_of(model) is not None:
            size = sum(array.nbytes for array in replay_rows.arrays(model).values())
            self.left_out = sizes.buffer_file_left_out(size, tree.root, self.config.kept_bytes)
            if not self.left_out:
                files["replay_buffer"] = Streamed(model.save_replay_buffer)  # type: ignore[attr-defined]
        self.digests = exact_state.or_none(lambda: exact_state.digests_of(self.training))
        final = self.store.save_final(
            step=model.num_timesteps,
            files=files,
            certificate=self.digests.get("all", ""),
            exact={**self.record.describe(), "image": self.config.image, "items": self.digests},
            **self._common,
        )
        with Caution(tree.metadata.name):
            write_metadata(tree.metadata, self.metadata(model.num_timesteps), disk=self.disk)
        return final
