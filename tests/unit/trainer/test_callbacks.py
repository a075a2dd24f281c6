"""When a training saves, evaluates and stops: at rollout starts, at the first one at or after each multiple."""

from __future__ import annotations

import io
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import Logger
from support import trainer_runs

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.checkpoints.metadata import read_metadata
from kaggle_manager.protocol.events import Event, ProgressEvent
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.callbacks import (
    BestModelCallback,
    DeadlineCallback,
    ProgressCallback,
    RotatingCheckpointCallback,
    SessionOver,
)
from kaggle_manager.trainer.sb3.evaluation import Evaluation
from kaggle_manager.trainer.sb3.state_digest import digest
from kaggle_manager.trainer.sb3.training_config import adaptive_evaluate_every, adaptive_save_every


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
    with pytest.raises(SessionOver, match="given 100 timesteps"):
        rollouts(deadline, [120])
    assert recorder.calls == [("begin", 0), ("save", 120)]


# --- best


class Scripted:
    """Evaluations with given scores, by timesteps."""

    def __init__(self, scores: dict[int, float]) -> None:
        self.scores = scores

    def __call__(self, model: Any, each_step: Any) -> Evaluation:
        each_step()
        return Evaluation([self.scores[model.num_timesteps]], [10], 100)


def best_callback(
    scores: dict[int, float],
    every: int,
    save_best: Any = None,
    clock: SessionClock | None = None,
    best: Any = None,
    share: float | None = None,
) -> tuple[BestModelCallback, list[Any]]:
    written: list[Any] = []
    callback = BestModelCallback(
        Scripted(scores),  # type: ignore[arg-type]
        every,
        clock or SessionClock(),
        checkpointing(100)[0],
        save_best or (lambda step, score: written.append((step, score))),
        lambda: best,
        lambda data: written.append(dict(np.load(io.BytesIO(data)))["timesteps"].tolist()),
        lambda event: None,
        most_share=share,
    )
    callback.model = SimpleNamespace(num_timesteps=0, logger=Logger(None, []))  # type: ignore[assignment]
    return callback, written


def test_only_a_strictly_better_score_wins_and_one_that_is_not_finite_never() -> None:
    scores = {100: math.nan, 200: -5.0, 300: -5.0, 400: math.inf, 500: -4.0, 600: -math.inf}
    callback, written = best_callback(scores, 100)
    rollouts(callback, sorted(scores))
    assert [entry for entry in written if isinstance(entry, tuple)] == [(200, -5.0), (500, -4.0)]
    assert (callback.best_score, callback.best_step) == (-4.0, 500)


def test_evaluations_take_no_more_than_their_share_and_a_resume_changes_nothing_of_it() -> None:
    steps = range(100, 2_001, 100)
    scores = dict.fromkeys([*steps, 2_050], 1.0)

    def evaluated(seam: int | None) -> list[int]:
        """Each evaluation plays 100 steps: as many as are trained, without a bound."""
        callback, _ = best_callback(scores, 100, share=0.2)
        for step in steps:
            if step == seam:
                resumed, _ = best_callback(scores, 100, share=0.2)
                resumed.load_state(callback.state())
                callback = resumed
            rollouts(callback, [step])
        callback.model.num_timesteps = 2_050
        callback._on_training_end()
        return callback._steps

    # After the first, whenever those before it are a fifth of all steps: 100 of 500, 200 of 1,000, ...
    assert evaluated(None) == [100, 400, 800, 1_200, 1_600, 2_000, 2_050], "the last policy always"
    assert all(evaluated(seam) == evaluated(None) for seam in (200, 400, 500, 1_300))


def test_counts_of_evaluations_are_those_of_the_session() -> None:
    first, _ = best_callback({100: 3.0, 200: 1.0}, 100)
    rollouts(first, [100, 200])
    second, _ = best_callback({300: 2.0}, 100)
    second.load_state(first.state())
    rollouts(second, [300])
    assert (first.count, second.count) == (2, 1)


def test_an_evaluation_that_could_not_be_finished_is_not_begun_and_none_shortens_the_training() -> None:
    now = [100.0]
    clock = SessionClock(100.0, epilogue_s=1.0, now=lambda: now[0])
    clock.saved(0.5)
    callback, _ = best_callback(dict.fromkeys(range(100, 1_000, 100), 1.0), 100, clock=clock)
    play = callback._evaluator

    def slow(model: Any, each_step: Any) -> Evaluation:
        now[0] += 20.0
        return play(model, each_step)

    callback._evaluator = slow  # type: ignore[assignment]
    for step in (100, 200, 300, 400):
        assert not clock.why_stop(step)
        rollouts(callback, [step])
        now[0] += 2.0
    assert not clock.why_stop(450), "12 s are left: the longest stretch without its evaluation is 2 s, the rest takes 2"
    before = now[0]
    with pytest.raises(SessionOver):
        rollouts(callback, [500])
    assert now[0] == before, "20 s were not there, so no second of the quota went into it"


def test_score_history_and_phase_survive_a_resume() -> None:
    first, _ = best_callback({100: 3.0, 200: 1.0}, 100)
    rollouts(first, [100, 200])
    second, written = best_callback({300: 2.0}, 100)
    second.load_state(first.state())
    rollouts(second, [200, 250, 300])
    assert written == [[100, 200], [100, 200, 300]], "2.0 is worse than the 3.0 of the session before"
    assert second.best_score == 3.0


def test_what_the_tree_knows_to_be_best_outlives_a_raised_target_but_nothing_from_the_future_does() -> None:
    def resumed(step: int) -> BestModelCallback:
        """As saved before its first evaluation, in a tree whose best model is of step 300."""
        committed = SimpleNamespace(step=300, manifest=SimpleNamespace(score=-1.0))
        callback, _ = best_callback({400: -2.0, 500: -0.5}, 100, best=committed)
        callback.model = SimpleNamespace(num_timesteps=step, logger=Logger(None, []))  # type: ignore[assignment]
        callback.load_state(best_callback({}, 100)[0].state())
        return callback

    raised = resumed(300)
    assert (raised.best_score, raised.best_step) == (-1.0, 300)
    rollouts(raised, [400])
    assert raised.best_step == 300, "a worse policy is not the best so far"
    rollouts(raised, [500])
    assert raised.best_step == 500
    assert resumed(200).best_step is None, "a session that was cut evaluates step 300 again, and finds the same"


def test_seconds_in_evaluations_add_up_over_sessions_and_change_no_certificate() -> None:
    def session(before: BestModelCallback | None, step: int, seconds: float) -> BestModelCallback:
        now = [100.0]
        callback, _ = best_callback({step: 1.0}, 100, clock=SessionClock(now=lambda: now[0]))
        if before is not None:
            callback.load_state(before.state())
        play = callback._evaluator

        def slow(model: Any, each_step: Any) -> Evaluation:
            now[0] += seconds
            return play(model, each_step)

        callback._evaluator = slow  # type: ignore[assignment]
        rollouts(callback, [step, step + 50])
        return callback

    first = session(None, 100, 4.0)
    second = session(first, 200, 7.0)
    assert (first.total_seconds, second.seconds, second.total_seconds) == (4.0, 7.0, 11.0)
    slower = session(session(None, 100, 5.0), 200, 9.0)
    assert digest(slower.state()) == digest(second.state())
    older = {name: value for name, value in first.state().items() if name != "wall_clock"}
    second.load_state(older)
    assert second.total_seconds == 7.0, "a checkpoint from before seconds were kept"


def test_the_last_policy_is_evaluated_even_in_a_short_run() -> None:
    callback, written = best_callback({40: 1.0}, 1000)
    rollouts(callback, [0, 20])
    callback.model.num_timesteps = 40
    callback._on_training_end()
    callback._on_training_end()
    assert written == [(40, 1.0), [40]]


def test_the_timeline_of_a_hundred_thousand_steps_ends_with_the_best_of_twenty_thousand(tmp_path: Path) -> None:
    """Rewards rise to -25 at 20,000 steps and fall again; latest and final are of 100,000, best stays."""
    scores = {1_000: -80.0, 5_000: -50.0, 10_000: -30.0, 15_000: -40.0, 20_000: -25.0}
    store = CheckpointStore(TrainingTree(tmp_path, "traffic_light_control"))
    common: dict[str, Any] = {"target": 100_000, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": ""}
    steps = range(1_000, 100_001, 1_000)
    every = {step: scores.get(step, -100.0 if step < 1_000 else -60.0) for step in steps} | {100_000: -35.0}
    callback, _ = best_callback(
        every,
        adaptive_evaluate_every(adaptive_save_every(100_000)),
        lambda step, score: store.save_best(step=step, score=score, files={"model": b"model %d" % step}, **common),
    )
    for step in steps:
        store.save_latest(step=step, files={"model": b"model %d" % step, "state": b"state"}, **common)
        rollouts(callback, [step])
    store.save_final(step=100_000, files={"model": b"model 100000"}, **common)
    latest, best, final = store.find_latest_checkpoint(), store.best(), store.final()
    assert latest is not None
    assert best is not None
    assert final is not None
    assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [100_000, 99_000]
    assert (latest.step, final.step, best.step, best.manifest.score) == (100_000, 100_000, 20_000, -25.0)
    assert best.read("model") == b"model 20000"


def test_the_metadata_says_of_the_best_model_what_the_tree_holds(tmp_path: Path) -> None:
    chosen = trainer_runs.settings(tmp_path)
    trainer_runs.session(chosen, max_steps=150)
    tree = TrainingTree(tmp_path, trainer_runs.SCENARIO)
    # Of a session that was lost after it, and that the resumed one, not being exact, does not find again.
    common: dict[str, Any] = {"target": 300, "lineage": chosen.lineage, "bundle_sha256": ""}
    CheckpointStore(tree).save_best(score=900.0, step=290, files={"model": b"better"}, **common)
    trainer_runs.session(chosen)
    best, metadata = CheckpointStore(tree).best(), read_metadata(tree.metadata)
    assert best is not None
    assert metadata is not None
    assert (metadata.best_step, metadata.best_score) == (best.step, best.manifest.score) == (290, 900.0)


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
    trainer_runs.session(chosen, max_steps=150)
    tree = TrainingTree(tmp_path, trainer_runs.SCENARIO)
    for folder in (tree.history, tree.best_folder):
        shutil.rmtree(folder)
        folder.write_text("a user's")
    tree.metadata.unlink()
    tree.metadata.mkdir()
    tree.final.mkdir()
    for step in range(150, 301):
        os.mkfifo(tree.checkpoints / f"{tree.name('latest', 'model', step)}.next")
    trainer_runs.session(chosen)
    store, metadata = CheckpointStore(tree), read_metadata(tree.metadata)
    final = store.final()
    assert final is not None
    assert metadata is not None
    assert (final.step, metadata.timesteps_done) == (300, 300)
    assert (tree.history / "evaluations.npz").is_file()
    assert (tmp_path / "history.other").read_text() == "a user's"
