"""The best model: policies are evaluated at a cadence, and the one with the highest score is kept.

An evaluation begins at one rollout start, of a copy of the model, and its result is taken at a later one, which depends
on numbers of steps alone: the bits of a training are the same however long evaluations take. Until then the copy is
part of every checkpoint, and a session that continues from there evaluates it again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.protocol.events import EvaluationEvent
from kaggle_manager.trainer.runtime.log_lines import Emit, warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.callbacks import AtRolloutStart, RotatingCheckpointCallback, SessionOver
from kaggle_manager.trainer.sb3.evaluation import Evaluation
from kaggle_manager.trainer.sb3.evaluation_process import Evaluated
from kaggle_manager.trainer.sb3.model_copy import ModelCopy

LARGE_BYTES = 64_000_000
"""A copy larger than that is not kept in checkpoints: the training waits for its evaluation."""


class Evaluates(Protocol):
    """See `Evaluations`."""

    def begin(self, model: ModelCopy) -> None: ...

    def result(self, model: ModelCopy, check: Callable[[float], None], seconds: float = 0.0) -> Evaluated: ...


class BestModelCallback(AtRolloutStart):
    """Evaluates at the first rollout start at or after every multiple of `every` timesteps, and the last policy.

    The result is taken when the next evaluation is due. A policy is the best only when its score is strictly greater
    than every score before; one that is not finite never is. Phase, score, history and what is under way are state:
    they survive a resume.

    Args:
        evaluations: plays the episodes.
        copied: a copy of the model as it is.
        every: timesteps between evaluations.
        clock: a session that must stop waits for no evaluation; it is done again after the resume.
        checkpoint: saves before such a stop.
        save_best: called with (model, score) when that is the best so far.
        committed: the best model in the tree, None when there is none yet of this environment and reward.
        write_history: called with the bytes of evaluations.npz after each evaluation.
        emit: told of each evaluation.
        most_share: an evaluation is left out while those before it are more than this share of all environment steps,
            the last one never; None for no bound.
        diverged_below, refuse: a score below that, or none at all, has the training refused, with the words given.
        is_another_task: scores from before the resume are of another environment or reward, or were measured
            otherwise, and are none to compare with.
        enough_at: the first score that is so high ends the training on its way to `total` timesteps; None for no bound.

    Attributes:
        enough: step and score of the first evaluation that was, and the timesteps it was on the way to; None before.
    """

    def __init__(
        self,
        evaluations: Evaluates,
        copied: Callable[[], ModelCopy],
        every: int,
        clock: SessionClock,
        checkpoint: RotatingCheckpointCallback,
        save_best: Callable[[ModelCopy, float], None],
        committed: Callable[[], Checkpoint | None],
        write_history: Callable[[bytes], None],
        emit: Emit,
        most_share: float | None = None,
        diverged_below: float | None = None,
        refuse: Callable[[str], None] = lambda _: None,
        is_another_task: bool = False,
        enough_at: float | None = None,
        total: int = 0,
    ) -> None:
        super().__init__()
        self.every = every
        self._is_another_task = is_another_task
        self._most_share = most_share
        self._diverged_below, self._refuse = diverged_below, refuse
        self._enough_at, self._total = enough_at, total
        self.enough: tuple[int, float, int] | None = None
        self.best_score = -math.inf
        self.best_step: int | None = None
        self.seconds = 0.0  # that the training has waited for evaluations in this session
        self._seconds_before = 0.0
        self._evaluations, self._copied = evaluations, copied
        self._clock = clock
        self._checkpoint = checkpoint
        self._save_best, self._committed = save_best, committed
        self._write_history = write_history
        self._emit = emit
        self._passed = 0  # the last multiple was at or before this step
        self._under_way: ModelCopy | None = None
        self._longest_s = 0.0
        self._steps: list[int] = []
        self._done: list[Evaluation] = []
        self._steps_before = 0

    @property
    def count(self) -> int:
        """Evaluations whose results were taken in this session."""
        return len(self._steps) - self._steps_before

    @property
    def total_seconds(self) -> float:
        """Seconds waited for evaluations over all sessions."""
        return self._seconds_before + self.seconds

    @property
    def why_enough(self) -> str:
        """Why this training is over before its target; '' while it is not, and once the user has raised the target."""
        step, score, total = self.enough or (0, -math.inf, 0)
        if self._enough_at is None or score < self._enough_at or total != self._total:
            return ""
        reached = f"the evaluation at step {step:,} has a mean reward of {score:.6g}"
        return f"{reached}, and stop_when.reward is {self._enough_at:.6g}"

    def _on_rollout_start(self) -> None:
        if self._is_due:
            self.take_if_due()
        if self.why_enough:
            self._checkpoint.save_now()
            raise SessionOver(self.why_enough)
        if not self._is_due:
            return
        if self._under_way is None and self._fits(0) and self._begin().size > LARGE_BYTES:
            self._take()
        self._passed = self.model.num_timesteps

    def _on_training_end(self) -> None:
        self._take()
        if not self._steps or self.model.num_timesteps > self._steps[-1]:
            self._begin()
            self._take()

    def take_if_due(self) -> None:
        """Before a save at this step: what it would keep a copy for is taken first.

        Raises:
            SessionOver: the session must stop before it is there.
        """
        if self._is_due and self._fits(self._done[-1].played if self._done else 0):
            self._take()

    @property
    def _is_due(self) -> bool:
        return self.model.num_timesteps // self.every > self._passed // self.every

    def _fits(self, more: int) -> bool:
        """Whether evaluations that play so many steps more leave room for another one."""
        played = sum(evaluation.played for evaluation in self._done) + more
        return self._most_share is None or played <= self._most_share * (played + self.model.num_timesteps)

    def _begin(self) -> ModelCopy:
        started = self._clock.elapsed()
        self._under_way = model = self._copied()
        self._evaluations.begin(model)
        self._waited(started)
        return model

    def _take(self) -> None:
        model, started = self._under_way, self._clock.elapsed()
        if model is None:
            return
        try:
            found = self._evaluations.result(model, self._check_time, self._longest_s)
        except SessionOver:
            self._waited(started)
            self._checkpoint.save_now()
            raise
        self._under_way = None
        self._longest_s = max(self._longest_s, found.seconds)
        self._waited(started)
        self._note(model, found)

    def _waited(self, started: float) -> None:
        seconds = self._clock.elapsed() - started
        self.seconds += seconds
        self._clock.not_trained(seconds)

    def _note(self, model: ModelCopy, found: Evaluated) -> None:
        step, evaluation = model.step, found.evaluation
        self._steps.append(step)
        self._done.append(evaluation)
        is_again = (step, evaluation.score) == (self.best_step, self.best_score)  # evaluated before, and cut since
        is_best = is_again or (math.isfinite(evaluation.score) and evaluation.score > self.best_score)
        if is_best and not is_again:
            self.best_score, self.best_step = evaluation.score, step
            self._save_best(model, evaluation.score)
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
                seconds=round(found.seconds, 2),
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
        was_enough = self.enough is not None and self._enough_at is not None and self.enough[1] >= self._enough_at
        if self._enough_at is not None and evaluation.score >= self._enough_at and not was_enough:
            self.enough = step, evaluation.score, self._total

    def _check_time(self, needed_s: float = 0.0) -> None:
        if reason := self._clock.why_stop_now(needed_s):
            raise SessionOver(reason)

    def _as_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(
            buffer,
            timesteps=np.array(self._steps, dtype=np.int64),
            results=_table([evaluation.returns for evaluation in self._done], np.float64),
            ep_lengths=_table([evaluation.lengths for evaluation in self._done], np.int64),
        )
        return buffer.getvalue()

    def state(self) -> dict[str, Any]:
        return {
            "passed": self._passed,
            "under_way": None if self._under_way is None else self._under_way.state(),
            "best_score": self.best_score,
            "best_step": self.best_step,
            "steps": list(self._steps),
            "returns": [evaluation.returns for evaluation in self._done],
            "lengths": [evaluation.lengths for evaluation in self._done],
            "played": [evaluation.played for evaluation in self._done],
            "wall_clock": self.total_seconds,
            "enough": self.enough,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._passed = state["passed"]
        if (saved := state.get("under_way")) is not None:  # checkpoints of older sessions do not have it
            self._under_way = ModelCopy.from_state(saved)
            self._evaluations.begin(self._under_way)
        if not self._is_another_task:
            self._load_best(state)
        self._steps = list(state["steps"])
        self._steps_before = len(self._steps)
        self._seconds_before = state.get("wall_clock", 0.0)
        self.enough = state.get("enough")
        parts = zip(state["returns"], state["lengths"], state["played"], strict=True)
        self._done = [Evaluation(*each) for each in parts]
        if self._steps:
            self._write_history(self._as_npz())

    def _load_best(self, state: dict[str, Any]) -> None:
        self.best_score = state["best_score"]
        self.best_step = state["best_step"]
        # The policy at the target is evaluated after its last save: when the target is raised, the tree knows better.
        best = self._committed()
        known_by = self.model.num_timesteps if self._under_way is None else self._under_way.step - 1
        score = best.manifest.score if best is not None and best.step <= known_by else None
        if best is not None and score is not None and score > self.best_score:
            self.best_score, self.best_step = score, best.step


def _table(rows: list[Any], dtype: Any) -> np.ndarray[Any, Any]:
    """One row for each evaluation; shorter rows are filled up (NaN or -1) if the number of episodes was changed."""
    width = max(map(len, rows), default=0)
    fill = math.nan if dtype is np.float64 else -1
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype).reshape(len(rows), width)
