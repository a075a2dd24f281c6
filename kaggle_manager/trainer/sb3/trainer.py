"""One session of one training: from the newest checkpoint towards the target, for any Stable-Baselines3 algorithm.

Promises: a training cut anywhere, any number of times, and continued by `train` ends with the bits of one that was
never cut, where the environment and the arithmetic allow it; where they do not, it says so and continues. The target is
the total over all sessions. Never subclasses or patches an algorithm.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import ExitStack
from typing import Literal

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.checkpoints import (
    Checkpoint,
    CheckpointStore,
    Disk,
    TrainingMetadata,
    TrainingTree,
)
from kaggle_manager.checkpoints.atomic_io import own_folder, write_atomic
from kaggle_manager.checkpoints.compatibility import is_another_task
from kaggle_manager.errors import KaggleManagerError, WrongAccelerator
from kaggle_manager.protocol.events import ResumeEvent
from kaggle_manager.system.formatting import count
from kaggle_manager.trainer.runtime.log_lines import Caution, Emit, emit_in_words, say, warn
from kaggle_manager.trainer.runtime.same_experiment import changed_on_purpose, check_same_experiment
from kaggle_manager.trainer.runtime.session import SessionOutcome
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import (
    algorithms,
    code_first,
    determinism,
    divergence,
    env_probe,
    env_state,
    env_statistics,
    replay_rows,
    sizes,
)
from kaggle_manager.trainer.sb3.accelerator_gain import measure_gain
from kaggle_manager.trainer.sb3.best_model import BestModelCallback
from kaggle_manager.trainer.sb3.callbacks import (
    DeadlineCallback,
    GeneratorsCallback,
    ProgressCallback,
    RotatingCheckpointCallback,
    SessionOver,
    TrainerCallbacks,
)
from kaggle_manager.trainer.sb3.checkpoint_writer import CheckpointWriter
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.code_first import Built, Context
from kaggle_manager.trainer.sb3.description import complete_identity, metadata
from kaggle_manager.trainer.sb3.env_processes import errors_of_processes
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.evaluation_process import Evaluating, Evaluations
from kaggle_manager.trainer.sb3.exact_state import Keeper, Training
from kaggle_manager.trainer.sb3.monitor_log import MonitorLog
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, RunRecord
from kaggle_manager.trainer.sb3.tensorboard_log import FILE_NAME, TensorBoardLog
from kaggle_manager.trainer.sb3.total_timesteps import what_follows_it
from kaggle_manager.trainer.sb3.training_config import TrainingConfig
from kaggle_manager.trainer.sb3.user_callbacks import UserCallbacks, made_of
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess


def train(
    config: TrainingConfig,
    resume_point: ResumePoint,
    clock: SessionClock,
    *,
    disk: Disk | None = None,
    emit: Emit = emit_in_words,
) -> SessionOutcome:
    """Train from `resume_point` until the target, the deadline or a request to stop (`session_clock.stop_signals`).

    Args:
        config: what to train.
        resume_point: from `find_resume_point`.
        clock: this session's.
        disk: the effects on files; tests inject one that dies or fails.
        emit: where its events go; by default they are printed in words.

    Raises:
        CheckpointIncompatible: the checkpoint belongs to another experiment.
        ConfigError: the configuration cannot be trained.
        Diverged: the training ran away; what was saved is finite, and stays.
        StorageError: the disk refused; the checkpoints that were there still load.
    """
    if resume_point.checkpoint is not None and resume_point.step >= config.total:
        final = CheckpointStore(resume_point.checkpoint.tree, warn=warn).final()
        if final is not None and final.step == resume_point.step:
            say(f"The target of {count(config.total, 'timestep')} is already reached, at step {resume_point.step:,}.")
            items = dict(final.manifest.exact.get("items", {}))
            return SessionOutcome("completed", "already reached", resume_point.step, resume_point.step, digests=items)
    with ExitStack() as resources:
        return Session(config, resume_point, clock, disk or Disk(), resources, emit).run()


class Session:
    """The parts of one session, put together in the order they depend on each other; `run` trains."""

    def __init__(
        self,
        config: TrainingConfig,
        resume_point: ResumePoint,
        clock: SessionClock,
        disk: Disk,
        resources: ExitStack,
        emit: Emit = emit_in_words,
    ) -> None:
        self.config, self.resume_point, self.clock, self.resources = config, resume_point, clock, resources
        self._emit = emit
        self._heard: set[str] = set()
        self.tree = TrainingTree(config.tree, config.scenario)
        # First of all: the other process shall inherit no environment, no GPU and no replay buffer.
        self.writer = WorkerProcess(CheckpointWriter(self.tree, disk, warn, config.vouched))
        resources.callback(self.writer.close)
        self.evaluations = Evaluations(Evaluating(_evaluator(config)))
        resources.callback(self.evaluations.close)
        _check_device(config.device)
        determinism.make_deterministic(config.device)
        if above := determinism.not_pinned():
            warn(
                f"{above}, which not every machine has: the bits of this training can be had on such machines alone. "
                "What is loaded before kaggle_manager.trainer cannot be kept to AVX2: import it later."
            )
        self._changed = changed_on_purpose(config, resume_point.checkpoint)
        self.record: RunRecord
        built = self._made_as_said() if config.build is None else self._made_by_code(config.build)
        self.model, self.environments, self.evaluated_in = built.model, built.environments, built.evaluation
        of_section = made_of(config.callbacks, f"{config.environments.table}callbacks")
        self.users_callbacks = [*of_section, *built.callbacks]
        self.store = CheckpointStore(self.tree, disk=disk, warn=warn)
        self.identity = complete_identity(config, built, self.record)
        if resume_point.checkpoint is not None:
            accepted = check_same_experiment(resume_point.checkpoint, self.identity, config)
            if accepted and not self._changed:  # of what a function has made, which is known only now
                self._changed = accepted
                self.record.break_at(resume_point.step, f"{accepted} was changed on purpose", changed=accepted)
        self._note_target()
        own_folder(disk, self.tree.history)
        self._make_callbacks(disk)

    def run(self) -> SessionOutcome:
        before = self.clock.elapsed()
        if self.resume_point.checkpoint is not None:
            self._restore(self.resume_point.checkpoint)
        else:  # a run that has begun could not take other settings
            sizes.check_memory(self.model, self.config.total)
        start, updates = self.model.num_timesteps, self._updates
        # learn() is told the whole target, as where nothing was cut: some take their schedules from it. The first
        # callback puts the counter back, before a step is counted.
        self.checkpoint.start, self.model.num_timesteps = start, 0
        gain = self._gain()
        self._announce(start)
        kind: Literal["completed", "interrupted"] = "completed"
        try:
            # Every callback acts at rollout starts; the first one puts a resumed training back.
            with determinism.nondeterminism_noted(self._note_nondeterminism):
                self.model.learn(
                    self.config.total,
                    callback=self._callbacks(),
                    # Never: its phase would begin anew in each session. `curves` writes the points instead.
                    log_interval=sys.maxsize,
                    reset_num_timesteps=self.resume_point.checkpoint is None,
                )
            self.checkpointer.save_final()
            reason = self.checkpointer.left_out
            if reason:
                warn(f"the final model is saved; {reason}.")
        except SessionOver as over:
            kind, reason = "interrupted", over.reason
            self.checkpointer.finish()
            if self.best.why_enough:
                kind = "completed"
                self.checkpointer.save_final()
        except KaggleManagerError:
            raise
        except Exception as error:
            # Distributions refuse parameters that are not finite, and environments such actions, before any save.
            if cause := divergence.cause_of(self.model, self.evaluations.last_observation):
                self.checkpointer.refuse(f"{cause}, and so it ended in {type(error).__name__}")
            raise
        newest = self.checkpointer.newest
        return SessionOutcome(
            kind=kind,
            reason=reason,
            step=newest.step if newest else None,
            resumed_from=start,
            timings={
                "setup": round(before, 3),
                "train": round(self.clock.elapsed() - before - self.checkpointer.stall_s - self.best.seconds, 3),
                "save": round(self.checkpointer.stall_s, 3),
                "evaluate": round(self.best.seconds, 3),
            },
            counts={
                "steps": self.model.num_timesteps - start,
                "updates": self._updates - updates,
                "evaluations": self.best.count,
                "checkpoints": self.checkpointer.count,
            },
            accelerator_gain=gain,
            digests=self.checkpointer.digests,
            early=self.best.why_enough if self.model.num_timesteps < self.config.total else "",
        )

    def _gain(self) -> float | None:
        if self.config.device == "cpu":
            return None
        batch_size = int(getattr(self.model, "batch_size", 1))  # A2C has no batches of its own
        try:
            gain = round(measure_gain(self.model.policy, self.config.device, batch_size), 3)
        except Exception as error:  # it is a figure for the user; nothing depends on it
            warn(f"how much the accelerator gains was not measured: {type(error).__name__}: {error}.")
            return None
        say(f"The accelerator carries a batch through the policy {gain:.3g} times as fast as the CPU.")
        return gain

    # --- putting together ---------------------------------------------------------------------------------------------

    def _seed(self) -> int:
        if self.resume_point.record is not None:
            return self.resume_point.record.seed
        return secrets.randbits(31) if self.config.seed is None else self.config.seed

    def _record(self, environments: Environments, seed: int) -> RunRecord:
        config, now = self.config, determinism.fingerprint(self.config.device)
        record = self.resume_point.record
        if record is None:
            exactness = env_probe.probe(environments, seed)
            if exactness.mode == "none":
                warn(f"resumes of this training cannot be exact: {exactness.reason}.")
            return RunRecord(seed, exactness, now, config.total)
        step = self.resume_point.step
        if self._changed:
            record.break_at(step, f"{self._changed} was changed on purpose", changed=self._changed)
            record.exactness = env_probe.probe(environments, record.seed)
        if changed := determinism.differences(now, record.arithmetic):
            record.break_at(step, "the arithmetic changed: " + "; ".join(changed))
            record.arithmetic = now
        if moved := self._moved():
            record.break_at(step, moved)
        return record

    def _note_target(self) -> None:
        """Another target than the session before had is another training if anything follows it."""
        record, total = self.record, self.config.total
        if record.target != total:
            following = what_follows_it(self.model, self.users_callbacks)
            following += [] if self.config.build is None else [self.config.build]
            if following:
                changed = f"the target changed from {record.target} to {total} timesteps"
                named = ", ".join(following)
                record.break_at(self.resume_point.step, f"{changed}, and these may depend on it: {named}")
            record.target = total

    def _moved(self) -> str:
        """In words, that the environments live in other processes than before: their random generators are others."""
        head = self.resume_point.checkpoint
        then = head.manifest.identity.get("vec_env") if head else None
        now = self.config.identity.get("vec_env")
        return f"vec_env changed from {then} to {now}" if then and now and then != now else ""

    def _note_nondeterminism(self, operation: str) -> None:
        why = f"{operation} has no deterministic kernel on {self.record.arithmetic['device']}"
        if why not in self._heard:
            self._heard.add(why)
            self.record.break_at(self.model.num_timesteps, why)

    def _made_by_code(self, name: str) -> Built:
        seed = self._seed()

        def mode_of(environments: Environments) -> env_state.Mode:
            self.record = self._record(environments, seed)
            return self.record.exactness.mode

        context = Context(
            seed=seed,
            device=self.config.device,
            timesteps=self.config.total,
            hyperparameters=self.config.hyperparameters,
            mode_of=mode_of,
            resources=self.resources,
        )
        made = code_first.built(name, context)
        self._warn_of_statistics(made.model.get_env())
        return made

    def _made_as_said(self) -> Built:
        config = self.config
        self.record = record = self._record(config.environments, self._seed())
        processes = config.environments.processes
        vec = config.environments.vectorised(
            record.exactness.mode,
            record.seed,
            errors=self.resources.enter_context(errors_of_processes()) if processes else None,
        )
        self.resources.callback(env_state.close, vec)
        config.environments.check_evaluation(vec)
        self._warn_of_statistics(vec)
        model = algorithms.build_model(
            config.algorithm,
            config.policy,
            config.hyperparameters,
            vec,
            seed=record.seed,
            device=config.device,
            noise=config.noise,
            table=config.environments.table,
        )
        return Built(model, config.environments, config.environments.for_evaluation())

    def _warn_of_statistics(self, vec: VecEnv | None) -> None:
        if vec is not None and (said := env_statistics.in_words(*vec.env_method("statistics", indices=[0]))):
            warn(f"{said}.")

    def _make_callbacks(self, disk: Disk) -> None:
        config, record = self.config, self.record
        self.evaluations.of(
            self.model,
            record.exactness.mode,
            record.seed,
            all_alike=self._episodes_are_alike,
            environments=self.evaluated_in if config.build else None,
        )
        keywords = self.environments.monitor.get("info_keywords", ())
        log = self.tree.history / "monitor.csv"
        self.monitor = MonitorLog(log, self.environments.name, self.clock.elapsed, keywords)
        self._history_caution = Caution("evaluations.npz")
        self.curves = TensorBoardLog(self.tree.history / "tensorboard" / FILE_NAME, config.curves_every)
        self.curves.attach(self.model)
        self.users = UserCallbacks(self.users_callbacks, self._save_now)
        keepers: dict[str, Keeper] = {"monitor": self.monitor, "curves": self.curves, "users": self.users}
        self.training = Training(self.model, record.exactness.mode, keepers, self.users)
        self.checkpointer = Checkpointer(
            config,
            self.store,
            self.training,
            record,
            self.resume_point,
            self.clock,
            self.identity,
            self._metadata,
            disk,
            self.writer,
            environment_changed=bool(self._changed),
        )
        self.checkpoint = RotatingCheckpointCallback(
            config.saves_every, self.checkpointer, before_save=lambda: self.best.take_if_due()
        )
        self.deadline = DeadlineCallback(self.clock, self.checkpoint)
        head = self.resume_point.checkpoint
        self.best = BestModelCallback(
            self.evaluations,
            self.checkpointer.copied,
            config.evaluates_every,
            self.clock,
            self.checkpoint,
            save_best=self.checkpointer.save_best,
            committed=lambda: self.checkpointer.best,
            write_history=self._write_history,
            emit=self._emit,
            most_share=config.evaluation_share,
            diverged_below=config.diverged_below,
            refuse=self.checkpointer.refuse,
            is_another_task=head is not None and is_another_task(head.manifest.identity, self.identity),
            enough_at=config.enough_at,
            total=config.total,
        )
        keepers["best"] = self.best
        self.progress = ProgressCallback(config.total, self.clock, lambda: self._newest_step, self._emit)

    def _callbacks(self) -> TrainerCallbacks:
        """In this order: the first puts a resumed training back, and what the last does nothing comes between."""
        ours: list[BaseCallback] = [self.checkpoint, self.deadline, self.best, self.monitor, self.curves, self.progress]
        also: list[BaseCallback] = [self.users] if self.users.callbacks else []
        last = [GeneratorsCallback(self.training)] if algorithms.is_ars(self.model) else []
        return TrainerCallbacks([*ours, *also, *last])

    def _save_now(self) -> None:
        self.checkpoint.save_now()
        self.checkpointer.finish()

    def _write_history(self, data: bytes) -> None:
        path, disk = self.tree.history / "evaluations.npz", self.checkpointer.disk
        with self._history_caution:
            own_folder(disk, path.parent)
            write_atomic(disk, path, data)

    def _metadata(self, step: int) -> TrainingMetadata:
        return metadata(
            self.config,
            self.identity,
            self.record,
            self.resume_point,
            step=step,
            training_seconds=self.monitor.training_seconds,
            evaluation_seconds=self.best.total_seconds,
            best=self.checkpointer.best,
            left_out=self.checkpointer.left_out,
        )

    @property
    def _episodes_are_alike(self) -> bool:
        made, played = self.environments, self.evaluated_in
        is_probed = (made.factory, made.wrappers) == (played.factory, played.wrappers)  # of the first, by the probe
        return is_probed and self.record.exactness.deterministic and self.config.evaluate_deterministically

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Phase one; phase two follows in the first rollout start."""
        lost = self.checkpointer.restore(checkpoint)
        self.record.resumed_without(checkpoint.step)
        if self.record.exactness.mode == "none":
            why = f"the environment cannot be put back where it was ({self.record.exactness.reason})"
            self.record.break_at(checkpoint.step, why)
        is_elsewhere = lost.keys() & {"environment", "observations"} or self._changed
        if is_elsewhere or self.record.exactness.mode == "none":
            self._begin_new_episodes()

    def _begin_new_episodes(self) -> None:
        """The environments are not where they were: `learn()` resets them, and no transition leads across."""
        self.model._last_obs = None
        replay_rows.end_open_episodes(self.model)

    def _announce(self, start: int) -> None:
        total = self.config.total
        if self.resume_point.checkpoint is None:
            say(f"Starting from zero: {self.resume_point.reason}. Target: {count(total, 'timestep')}.")
        elif start >= total:
            say(f"The target of {count(total, 'timestep')} is already reached: the newest checkpoint has {start:,}.")
        else:
            say(f"Resumed from step {start:,} of {total:,}; {count(total - start, 'timestep')} left.")
        rollout = algorithms.rollout_steps(self.model)
        if (total - start) % rollout:
            ends = start + -(-(total - start) // rollout) * rollout
            say(f"{type(self.model).__name__} trains in rollouts of {rollout:,} timesteps: it will end at {ends:,}.")
        is_trial = total < 5_000  # which no best model is taken from
        if self.config.evaluation_episodes == 1 and not self._episodes_are_alike and not is_trial:
            warn(
                "an evaluation plays one episode, and episodes differ: the best model is the one that was lucky once; "
                "give `evaluation.episodes` more, 10 by default."
            )
        if self._episodes_are_alike and (episodes := self.config.evaluation_episodes) > 1:
            say(
                "The environment is deterministic, as far as was tried: an evaluation plays two episodes, and "
                f"only where they differ all {episodes}."
            )
        head = self.resume_point.checkpoint
        self._emit(
            ResumeEvent(
                step=start,
                target=total,
                manifest_sha256=head.manifest.sha256 if head else None,
                from_zero=self.resume_point.reason or None,
                exact=self.record.describe()["exact"],
            )
        )

    @property
    def _newest_step(self) -> int | None:
        return self.checkpointer.newest.step if self.checkpointer.newest else None

    @property
    def _updates(self) -> int:
        return int(getattr(self.model, "_n_updates", 0))


def _evaluator(config: TrainingConfig) -> Evaluator:
    """As far as it is known before the training is; see `EvaluationOrder`."""
    return Evaluator(
        config.environments.for_evaluation(),
        "none",
        0,
        config.evaluation_episodes,
        config.evaluate_deterministically,
    )


def _check_device(device: str) -> None:
    """Stable-Baselines3 would train on the CPU without a word.

    Raises:
        WrongAccelerator: torch cannot use the GPU.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise WrongAccelerator(
            f"There is a GPU, and the installed torch {torch.__version__} cannot use it.",
            safe="nothing was trained; the session ends at once, so that it uses no quota.",
            next_step="check the accelerator of this kernel, and the versions of torch and of its driver.",
        )
