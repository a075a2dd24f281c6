"""The best model is that of the highest score; bits do not depend on when a score came."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import Logger
from support import trainer_runs
from test_callbacks import checkpointing, rollouts

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.checkpoints.metadata import read_metadata
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import best_model
from kaggle_manager.trainer.sb3.best_model import BestModelCallback
from kaggle_manager.trainer.sb3.callbacks import SessionOver
from kaggle_manager.trainer.sb3.evaluation import Evaluation
from kaggle_manager.trainer.sb3.evaluation_process import Evaluated
from kaggle_manager.trainer.sb3.model_copy import ModelCopy
from kaggle_manager.trainer.sb3.state_digest import digest
from kaggle_manager.trainer.sb3.training_config import adaptive_evaluate_every, adaptive_save_every


class Scripted:
    """Evaluations of 100 steps with given scores, by timesteps; `wait` is called while one is waited for."""

    def __init__(self, scores: dict[int, float], wait: Callable[[], None] = lambda: None) -> None:
        self.scores, self.wait = scores, wait
        self.begun: list[int] = []

    def begin(self, model: ModelCopy) -> None:
        self.begun.append(model.step)

    def result(self, model: ModelCopy, check: Callable[[float], None], seconds: float = 0.0) -> Evaluated:
        self.wait()
        check(0.0)
        return Evaluated(Evaluation([self.scores[model.step]], [10], 100), 2.0)


def best_callback(
    scores: dict[int, float],
    every: int,
    save_best: Any = None,
    clock: SessionClock | None = None,
    best: Any = None,
    share: float | None = None,
    wait: Callable[[], None] = lambda: None,
    size: int = 1,
) -> tuple[BestModelCallback, list[Any]]:
    written: list[Any] = []
    checkpoint, recorder = checkpointing(100)
    callback = BestModelCallback(
        Scripted(scores, wait),
        lambda: ModelCopy(callback.model.num_timesteps, b"", {"policy": np.zeros(size, np.uint8)}, {}, b"", b""),
        every,
        clock or SessionClock(),
        checkpoint,
        save_best or (lambda model, score: written.append((model.step, score))),
        lambda: best,
        lambda data: written.append(dict(np.load(io.BytesIO(data)))["timesteps"].tolist()),
        lambda event: None,
        most_share=share,
    )
    callback.model = SimpleNamespace(num_timesteps=0, logger=Logger(None, []))  # type: ignore[assignment]
    checkpoint.model = recorder.model = callback.model
    return callback, written


def resumed(callback: BestModelCallback, *arguments: Any, **options: Any) -> tuple[BestModelCallback, list[Any]]:
    after, written = best_callback(*arguments, **options)
    after.model.num_timesteps = callback.model.num_timesteps
    after.load_state(callback.state())
    return after, written


def test_only_a_strictly_better_score_wins_and_one_that_is_not_finite_never() -> None:
    scores = {100: math.nan, 200: -5.0, 300: -5.0, 400: math.inf, 500: -4.0, 600: -math.inf}
    callback, written = best_callback(scores, 100)
    rollouts(callback, [*sorted(scores), 700])
    assert [entry for entry in written if isinstance(entry, tuple)] == [(200, -5.0), (500, -4.0)]
    assert (callback.best_score, callback.best_step) == (-4.0, 500)


def test_a_result_is_taken_when_the_next_evaluation_is_due_and_the_copy_is_state_until_then() -> None:
    scores = {104: 3.0, 200: 1.0}
    callback, written = best_callback(scores, 100)
    rollouts(callback, [0, 52, 104, 152, 196])
    assert (callback.count, written, callback.state()["under_way"]["step"]) == (0, [], 104)
    again, written = resumed(callback, scores, 100)
    assert again._evaluations.begun == [104], "what a session left under way is evaluated again"  # type: ignore
    assert digest(again.state()) == digest(callback.state())
    for each in (callback, again):
        rollouts(each, [200])
    assert written == [(104, 3.0), [104]]
    assert digest(again.state()) == digest(callback.state())


def test_before_a_save_at_the_same_step_it_is_taken_so_that_no_copy_is_saved() -> None:
    callback, _ = best_callback({100: 1.0, 200: 1.0}, 100)
    rollouts(callback, [100])
    callback.model.num_timesteps = 150
    callback.take_if_due()
    assert callback.state()["under_way"] is not None
    callback.model.num_timesteps = 200
    callback.take_if_due()
    assert callback.state()["under_way"] is None
    after, _ = resumed(callback, {200: 1.0, 100: 1.0}, 100)
    rollouts(after, [200])
    assert after._evaluations.begun == [200], "what is due at the step of a save is begun after it"  # type: ignore


def test_a_large_copy_is_no_part_of_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_model, "LARGE_BYTES", 1000)
    callback, _ = best_callback({100: 1.0}, 100, size=1001)
    rollouts(callback, [100])
    assert (callback.count, callback.state()["under_way"]) == (1, None)


def test_a_session_that_must_stop_waits_for_no_evaluation() -> None:
    now = [100.0]
    clock = SessionClock(100.0, epilogue_s=1.0, now=lambda: now[0])
    clock.saved(0.5)

    def wait() -> None:
        now[0] += 50.0

    callback, written = best_callback({100: 1.0, 200: 2.0}, 100, clock=clock, wait=wait)
    rollouts(callback, [100, 200])
    assert not clock.why_stop(200), "the seconds it has waited are no stretch of training"
    with pytest.raises(SessionOver):
        rollouts(callback, [300])
    assert callback._checkpoint._checkpointer.calls == [("save", 300)]  # type: ignore[attr-defined]
    assert (callback.state()["under_way"]["step"], callback.seconds) == (200, 100.0)
    after, written = resumed(callback, {200: 2.0, 300: 0.0}, 100)
    rollouts(after, [300])
    assert written == [[100], (200, 2.0), [100, 200]]


def test_evaluations_take_no_more_than_their_share_and_a_resume_changes_nothing_of_it() -> None:
    steps = range(100, 2_001, 100)
    scores = dict.fromkeys([*steps, 2_050], 1.0)

    def evaluated(seam: int | None) -> list[int]:
        """Each evaluation plays 100 steps: as many as are trained, without a bound."""
        callback, _ = best_callback(scores, 100, share=0.2)
        for step in steps:
            if step == seam:
                callback, _ = resumed(callback, scores, 100, share=0.2)
            rollouts(callback, [step])
        callback.model.num_timesteps = 2_050
        callback._on_training_end()
        return callback._steps

    # After the first, whenever those before it are a fifth of all steps: 100 of 500, 200 of 1,000, ...
    assert evaluated(None) == [100, 400, 800, 1_200, 1_600, 2_000, 2_050], "the last policy always"
    assert all(evaluated(seam) == evaluated(None) for seam in (200, 400, 500, 1_300))


def test_counts_of_evaluations_are_those_of_the_session() -> None:
    first, _ = best_callback({100: 3.0, 200: 1.0}, 100)
    rollouts(first, [100, 200, 300])
    second, _ = resumed(first, {300: 2.0}, 100)
    rollouts(second, [400])
    assert (first.count, second.count) == (2, 1)


def test_score_history_and_phase_survive_a_resume() -> None:
    first, _ = best_callback({100: 3.0}, 100)
    rollouts(first, [100, 200])
    second, written = resumed(first, {200: 1.0, 300: 2.0}, 100)
    rollouts(second, [200, 250, 300, 400])
    assert written == [[100], [100, 200], [100, 200, 300]], "2.0 is worse than the 3.0 of the session before"
    assert second.best_score == 3.0


def test_what_the_tree_knows_to_be_best_outlives_a_raised_target_but_nothing_from_the_future_does() -> None:
    def continued(step: int, under_way: int | None = None) -> BestModelCallback:
        """As saved before its first evaluation, in a tree whose best model is of step 300."""
        committed = SimpleNamespace(step=300, manifest=SimpleNamespace(score=-1.0))
        before, _ = best_callback({}, 100)
        if under_way is not None:
            rollouts(before, [under_way])
        before.model.num_timesteps = step
        return resumed(before, {300: -1.0, 400: -2.0, 500: -0.5}, 100, best=committed)[0]

    raised = continued(300)
    assert (raised.best_score, raised.best_step) == (-1.0, 300)
    rollouts(raised, [400, 500])
    assert raised.best_step == 300, "a worse policy is not the best so far"
    rollouts(raised, [600])
    assert raised.best_step == 500
    assert continued(200).best_step is None, "a session that was cut evaluates step 300 again, and finds the same"
    cut = continued(350, under_way=300)
    assert cut.best_step is None, "nor what was committed when this evaluation was taken, in a session that was cut"
    rollouts(cut, [400])
    assert cut.best_step == 300


def test_seconds_waited_for_evaluations_add_up_over_sessions_and_change_no_certificate() -> None:
    def session(before: BestModelCallback | None, step: int, seconds: float) -> BestModelCallback:
        now = [100.0]

        def wait() -> None:
            now[0] += seconds

        chosen: dict[str, Any] = {"clock": SessionClock(now=lambda: now[0]), "wait": wait}
        scores = {step: 1.0}
        callback, _ = best_callback(scores, 100, **chosen) if before is None else resumed(before, scores, 100, **chosen)
        rollouts(callback, [step, step + 50])
        callback._on_training_end = callback._take  # type: ignore[method-assign]
        callback._on_training_end()
        return callback

    first = session(None, 100, 4.0)
    second = session(first, 200, 7.0)
    assert (first.total_seconds, second.seconds, second.total_seconds) == (4.0, 7.0, 11.0)
    slower = session(session(None, 100, 5.0), 200, 9.0)
    assert digest(slower.state()) == digest(second.state())


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
        lambda model, score: store.save_best(
            step=model.step, score=score, files={"model": b"model %d" % model.step}, **common
        ),
    )
    for step in steps:
        store.save_latest(step=step, files={"model": b"model %d" % step, "state": b"state"}, **common)
        rollouts(callback, [step])
    callback._on_training_end()
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
