"""When things happen during a training: saving, stopping, evaluating, reporting. All of it at rollout starts.

At a rollout start the last transition is stored and the last gradient step is done, so what is saved there can be
continued exactly; inside a rollout neither is true. The checkpoint callback must be the first in the list: it puts a
resumed training back before any other callback looks at it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent
from kaggle_manager.trainer.runtime.log_lines import Emit, warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import random_state
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.evaluation import Evaluation, Evaluator
from kaggle_manager.trainer.sb3.exact_state import Training


class SessionOver(Exception):
    """Ends `learn()` between two rollouts; not an error. Stopping by a return value would lose a transition."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _AtRolloutStart(BaseCallback):
    """A callback that does nothing inside a rollout."""

    def _on_step(self) -> bool:
        return True


class RotatingCheckpointCallback(_AtRolloutStart):
    """Saves at the first rollout start at or after every multiple of `every` timesteps, and at the end.

    Args:
        every: timesteps between saves.
        checkpointer: saves the training as it is, and puts a resumed one back in the first rollout start.

    Attributes:
        start: timesteps that were trained before this session.
    """

    def __init__(self, every: int, checkpointer: Checkpointer) -> None:
        super().__init__()
        self.every = every
        self._checkpointer = checkpointer
        self.start = 0
        self._saved_at: int | None = None

    def _on_training_start(self) -> None:
        self.model.num_timesteps = self.start

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        if self._saved_at is None:
            self._checkpointer.begin()
            self._saved_at = step
        elif step // self.every > self._saved_at // self.every:
            self.save_now()
        else:
            self._checkpointer.between_saves()

    def _on_training_end(self) -> None:
        if self._saved_at is None:  # nothing was left to train
            self._checkpointer.begin()
            self._saved_at = self.model.num_timesteps
        self.save_now()

    def save_now(self) -> None:
        """Save, unless this very step is saved already."""
        if self._saved_at != self.model.num_timesteps:
            self._checkpointer.save()
            self._saved_at = self.model.num_timesteps


class DeadlineCallback(_AtRolloutStart):
    """Saves and ends the session when its clock says so. Comes before evaluations, which may take long.

    Inside a rollout that goes on beyond that the session ends as well, with what was saved before it: an episode may
    never end, and a rollout of whole episodes with it.
    """

    def __init__(self, clock: SessionClock, checkpoint: RotatingCheckpointCallback) -> None:
        super().__init__()
        self._clock = clock
        self._checkpoint = checkpoint
        self._first_step = self._rollout_began = 0

    def _on_training_start(self) -> None:
        self._first_step = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        reason = self._clock.why_stop(self.model.num_timesteps - self._first_step)
        if reason:
            self._checkpoint.save_now()
            raise SessionOver(reason)
        self._rollout_began = self.model.num_timesteps

    def _on_step(self) -> bool:
        if reason := self._clock.why_leave_rollout():
            steps = self.model.num_timesteps - self._rollout_began
            raise SessionOver(
                f"{reason}, inside a rollout of {steps:,} timesteps so far, which are lost: a training is saved "
                "between rollouts; a smaller train_freq or n_steps, or a time limit of the episodes, shortens them"
            )
        return True


class BestModelCallback(_AtRolloutStart):
    """Evaluates at the first rollout start at or after every multiple of `every` timesteps, and the last policy.

    A policy is the best only when its score is strictly greater than every score before; one that is not finite never
    is. Phase, score and history are state: they survive a resume.

    Args:
        evaluator: plays the episodes.
        every: timesteps between evaluations.
        clock: a session that must stop gives the evaluation up; it is done again after the resume.
        checkpoint: saves before such a stop.
        save_best: called with (step, score) when the model is the best so far.
        committed: the best model in the tree, None when there is none yet of this environment and reward.
        write_history: called with the bytes of evaluations.npz after each evaluation.
        emit: told of each evaluation.
        most_share: an evaluation is left out while those before it are more than this share of all environment steps,
            the last one never; None for no bound.
        diverged_below, refuse: a score below that, or none at all, has the training refused, with the words given.
        is_another_task: scores from before the resume are of another environment or reward, and none to compare with.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        every: int,
        clock: SessionClock,
        checkpoint: RotatingCheckpointCallback,
        save_best: Callable[[int, float], None],
        committed: Callable[[], Checkpoint | None],
        write_history: Callable[[bytes], None],
        emit: Emit,
        most_share: float | None = None,
        diverged_below: float | None = None,
        refuse: Callable[[str], None] = lambda _: None,
        is_another_task: bool = False,
    ) -> None:
        super().__init__()
        self.every = every
        self._is_another_task = is_another_task
        self._most_share = most_share
        self._diverged_below, self._refuse = diverged_below, refuse
        self.best_score = -math.inf
        self.best_step: int | None = None
        self.seconds = 0.0  # in evaluations of this session
        self._seconds_before = 0.0
        self._evaluator = evaluator
        self._clock = clock
        self._checkpoint = checkpoint
        self._save_best, self._committed = save_best, committed
        self._write_history = write_history
        self._emit = emit
        self._passed = 0  # the last multiple was at or before this step
        self._longest_s = 0.0
        self._steps: list[int] = []
        self._evaluations: list[Evaluation] = []
        self._steps_before = 0

    @property
    def count(self) -> int:
        """Evaluations done in this session."""
        return len(self._steps) - self._steps_before

    @property
    def total_seconds(self) -> float:
        """Seconds in evaluations over all sessions."""
        return self._seconds_before + self.seconds

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        if step // self.every > self._passed // self.every:
            if self._most_share is None or self._played <= self._most_share * (self._played + step):
                self._evaluate()
            self._passed = step

    def _on_training_end(self) -> None:
        if not self._steps or self.model.num_timesteps > self._steps[-1]:
            self._evaluate()

    @property
    def _played(self) -> int:
        """Environment steps of all evaluations."""
        return sum(evaluation.played for evaluation in self._evaluations)

    def _evaluate(self) -> None:
        step, started = self.model.num_timesteps, self._clock.elapsed()
        try:
            self._check_time(self._longest_s)  # one that could not be finished is not begun
            evaluation = self._evaluator(self.model, self._check_time)
        except SessionOver:
            self.seconds += self._clock.elapsed() - started
            self._checkpoint.save_now()
            raise
        seconds = self._clock.elapsed() - started
        self.seconds += seconds
        self._longest_s = max(self._longest_s, seconds)
        self._clock.not_trained(seconds)
        self._steps.append(step)
        self._evaluations.append(evaluation)
        is_again = (step, evaluation.score) == (self.best_step, self.best_score)  # evaluated before, and cut since
        is_best = is_again or (math.isfinite(evaluation.score) and evaluation.score > self.best_score)
        if is_best and not is_again:
            self.best_score, self.best_step = evaluation.score, step
            self._save_best(step, evaluation.score)
        self._write_history(self._as_npz())
        # With the next point of TensorBoard's curves, under the names of Stable-Baselines3's own EvalCallback.
        self.logger.record("eval/mean_reward", evaluation.score)
        self.logger.record("eval/mean_ep_length", fmean(evaluation.lengths))
        self._emit(
            EvaluationEvent(
                step=step,
                score=evaluation.score,
                best=is_best,
                episodes=len(evaluation.returns),
                env_steps=evaluation.played,
                seconds=round(seconds, 2),
            )
        )
        if not math.isfinite(evaluation.score):
            warn(
                f"the evaluation at step {step:,} has a mean reward of {evaluation.score}: the environment's reward is "
                "not finite; such a policy is never the best"
            )
        if self._diverged_below is not None and not evaluation.score >= self._diverged_below:  # NaN as well
            self._refuse(
                f"the evaluation at step {step:,} has a mean reward of {evaluation.score:.6g}, and "
                f"divergence.reward_below is {self._diverged_below:.6g}"
            )

    def _check_time(self, needed_s: float = 0.0) -> None:
        if reason := self._clock.why_stop_now(needed_s):
            raise SessionOver(reason)

    def _as_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(
            buffer,
            timesteps=np.array(self._steps, dtype=np.int64),
            results=_table([evaluation.returns for evaluation in self._evaluations], np.float64),
            ep_lengths=_table([evaluation.lengths for evaluation in self._evaluations], np.int64),
        )
        return buffer.getvalue()

    def state(self) -> dict[str, Any]:
        return {
            "passed": self._passed,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "steps": list(self._steps),
            "returns": [evaluation.returns for evaluation in self._evaluations],
            "lengths": [evaluation.lengths for evaluation in self._evaluations],
            "played": [evaluation.played for evaluation in self._evaluations],
            "wall_clock": self.total_seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._passed = state["passed"]
        if not self._is_another_task:
            self._load_best(state)
        self._steps = list(state["steps"])
        self._steps_before = len(self._steps)
        self._seconds_before = state.get("wall_clock", 0.0)  # checkpoints of older sessions do not have it
        parts = zip(state["returns"], state["lengths"], state["played"], strict=True)
        self._evaluations = [Evaluation(*each) for each in parts]
        if self._steps:
            self._write_history(self._as_npz())

    def _load_best(self, state: dict[str, Any]) -> None:
        self.best_score = state["best_score"]
        self.best_step = state["best_step"]
        # The policy at the target is evaluated after its last save: when the target is raised, the tree knows better.
        best = self._committed()
        score = best.manifest.score if best is not None and best.step <= self.model.num_timesteps else None
        if best is not None and score is not None and score > self.best_score:
            self.best_score, self.best_step = score, best.step


class GeneratorsCallback(_AtRolloutStart):
    """For an algorithm that draws after a rollout has ended and before the next one starts, where a save is made.

    Remembers the random generators as they are before that draw, and puts them back where a resumed training begins.
    Must be the last one: callbacks may draw as well.
    """

    def __init__(self, training: Training) -> None:
        super().__init__()
        self._training = training

    def _on_training_start(self) -> None:
        if self._training.before_rollout is None:
            self._on_rollout_end()
        else:
            random_state.restore(self._training.before_rollout)

    def _on_rollout_end(self) -> None:
        self._training.before_rollout = random_state.collect()


class ProgressCallback(_AtRolloutStart):
    """Tells the progress now and then: every few seconds at first, every half minute in a long session.

    Args:
        target: the run's total timesteps.
        clock: this session's clock.
        checkpoint: gives the step of the newest checkpoint.
        emit: told of the progress.
    """

    def __init__(self, target: int, clock: SessionClock, checkpoint: Callable[[], int | None], emit: Emit) -> None:
        super().__init__()
        self._target = target
        self._clock = clock
        self._checkpoint = checkpoint
        self._emit = emit
        self._last: tuple[float, int] | None = None

    def _on_rollout_start(self) -> None:
        now = self._clock.elapsed()
        if self._last is None:
            self._last = (now, self.model.num_timesteps)
        elif now - self._last[0] >= (5.0 if now < 600 else 30.0):
            self._report(now)

    def _on_training_end(self) -> None:
        self._report(self._clock.elapsed())

    def _report(self, now: float) -> None:
        then, before = self._last or (now, self.model.num_timesteps)
        step = self.model.num_timesteps
        episodes = self.model.ep_info_buffer or ()
        self._emit(
            ProgressEvent(
                step=step,
                target=self._target,
                steps_per_s=round((step - before) / (now - then), 1) if now > then else None,
                reward=round(float(np.mean([episode["r"] for episode in episodes])), 4) if episodes else None,
                checkpoint=self._checkpoint(),
            )
        )
        self._last = (now, step)


def _table(rows: list[Any], dtype: Any) -> np.ndarray[Any, Any]:
    """One row for each evaluation; shorter rows are filled up (NaN or -1) if the number of episodes was changed."""
    width = max(map(len, rows), default=0)
    fill = math.nan if dtype is np.float64 else -1
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype).reshape(len(rows), width)
