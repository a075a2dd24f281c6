"""When a training saves, evaluates and stops: at rollout starts, at the first one at or after each multiple."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from support import trainer_runs

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.metadata import read_metadata
from kaggle_manager.protocol.events import Event, ProgressEvent
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.callbacks import (
    AtRolloutStart,
    DeadlineCallback,
    ProgressCallback,
    RotatingCheckpointCallback,
    SessionOver,
    TrainerCallbacks,
)
from kaggle_manager.trainer.sb3.training_config import adaptive_evaluate_every, adaptive_save_every


class AtEachStep(BaseCallback):
    def _init_callback(self) -> None:
        self.seen: list[int] = []

    def _on_step(self) -> bool:
        self.seen.append(len(self.locals["infos"]))
        return True


class AtItsStarts(AtRolloutStart):
    def _init_callback(self) -> None:
        self.began = 0

    def _on_rollout_start(self) -> None:
        self.began += 1


class Recorder:
    """Stands where the checkpointer does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.model: Any = None

    def save(self) -> None:
        self.calls.append(("save", self.model.num_timesteps))

    def between_saves(self) -> None:
        """Nothing waits."""

    def begin(self) -> None:
        self.calls.append(("begin", self.model.num_timesteps))


def checkpointing(every: int) -> tuple[RotatingCheckpointCallback, Recorder]:
    recorder = Recorder()
    callback = RotatingCheckpointCallback(every, recorder)  # type: ignore[arg-type]
    callback.model = recorder.model = SimpleNamespace(num_timesteps=0, ep_info_buffer=[])  # type: ignore[assignment]
    return callback, recorder


def rollouts(callback: Any, starts: list[int]) -> None:
    for step in starts:
        callback.model.num_timesteps = step
        callback._on_rollout_start()


def test_inside_a_rollout_only_those_are_called_that_do_something_there() -> None:
    starts, steps = AtItsStarts(), AtEachStep()
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").learn(
        16, callback=TrainerCallbacks([starts, steps])
    )
    assert (starts.began, starts.n_calls) == (2, 0)
    assert steps.seen == [1] * 16, "each sees what `learn()` has at that step"


@pytest.mark.parametrize(
    ("total", "every"), [(2, 100), (4_999, 100), (5_000, 500), (19_999, 500), (20_000, 1_000), (10**6, 1_000)]
)
def test_the_cadence_follows_the_total(total: int, every: int) -> None:
    assert adaptive_save_every(total) == every
    assert adaptive_evaluate_every(every) == 1_000


def test_it_saves_at_the_first_rollout_start_at_or_after_each_multiple_and_at_the_end() -> None:
    callback, recorder = checkpointing(100)
    rollouts(callback, [0, 64, 128, 192, 256, 320])
    callback.model.num_timesteps = 384
    callback._on_training_end()
    assert recorder.calls == [("begin", 0), ("save", 128), ("save", 256), ("save", 320), ("save", 384)]


def test_what_a_save_would_have_to_keep_otherwise_is_done_before_it() -> None:
    callback, recorder = checkpointing(100)
    callback._before_save = lambda: recorder.calls.append(("before", callback.model.num_timesteps))
    rollouts(callback, [0, 64, 128, 192])
    assert recorder.calls == [("begin", 0), ("before", 128), ("save", 128)]


def test_a_resume_keeps_the_phase_and_saves_nothing_twice() -> None:
    callback, recorder = checkpointing(100)
    rollouts(callback, [192, 256])
    callback.save_now()
    assert recorder.calls == [("begin", 192), ("save", 256)]


def test_a_target_that_is_already_reached_is_still_put_back_before_anything_is_written() -> None:
    callback, recorder = checkpointing(100)
    callback.model.num_timesteps = 300
    callback._on_training_end()
    assert recorder.calls == [("begin", 300)]


def test_a_session_that_must_stop_saves_first_and_stops_between_two_rollouts() -> None:
    callback, recorder = checkpointing(1000)
    clock = SessionClock(max_steps=100)
    deadline = DeadlineCallback(clock, callback)
    deadline.model = callback.model
    for step in (0, 60):
        rollouts(callback, [step])
        rollouts(deadline, [step])
    rollouts(callback, [120])
    with pytest.raises(SessionOver, match="was to train 100 timesteps"):
        rollouts(deadline, [120])
    assert recorder.calls == [("begin", 0), ("save", 120)]


# --- progress


def test_progress_is_told_at_a_bounded_rate() -> None:
    time, told = [0.0], list[Event]()
    progress = ProgressCallback(10**6, SessionClock(now=lambda: time[0]), lambda: 7, told.append)
    progress.model = SimpleNamespace(num_timesteps=0, ep_info_buffer=[{"r": 2.0}])  # type: ignore[assignment]
    twelve_hours = 12 * 3600
    for second in range(twelve_hours):
        time[0] = float(second)
        rollouts(progress, [second * 10])
    assert 1000 < len(told) < 2000
    assert told[0] == ProgressEvent(step=50, target=1_000_000, steps_per_s=10.0, reward=2.0, checkpoint=7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
def test_what_a_users_code_makes_in_the_places_of_the_trainer_ends_no_training(tmp_path: Path) -> None:
    chosen = trainer_runs.settings(tmp_path)
    trainer_runs.session(chosen, max_steps=205)
    tree = TrainingTree(tmp_path, trainer_runs.SCENARIO)
    for folder in (tree.history, tree.best_folder):
        shutil.rmtree(folder)
        folder.write_text("a user's")
    tree.metadata.unlink()
    tree.metadata.mkdir()
    tree.final.mkdir()
    for step in range(210, 301):
        os.mkfifo(tree.checkpoints / f"{tree.name('latest', 'model', step)}.next")
    trainer_runs.session(chosen)
    store, metadata = CheckpointStore(tree), read_metadata(tree.metadata)
    final = store.final()
    assert final is not None
    assert metadata is not None
    assert (final.step, metadata.timesteps_done) == (300, 300)
    assert (tree.history / "evaluations.npz").is_file()
    assert (tmp_path / "history.other").read_text() == "a user's"
