"""When things happen during a training: saving, stopping, reporting. All of it at rollout starts.

At a rollout start the last transition is stored and the last gradient step is done, so what is saved there can be
continued exactly; inside a rollout neither is true. The checkpoint callback must be the first in the list: it puts a
resumed training back before any other callback looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from kaggle_manager.protocol.events import ProgressEvent
from kaggle_manager.trainer.runtime.log_lines import Emit
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import random_state
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.exact_state import Training


class SessionOver(Exception):
    """Ends `learn()` between two rollouts; not an error. Stopping by a return value would lose a transition."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AtRolloutStart(BaseCallback):
    """A callback that does nothing inside a rollout."""

    def _on_step(self) -> bool:
        return True


class TrainerCallbacks(CallbackList):
    """All callbacks of a training, in their order, at less than a list of Stable-Baselines3 costs at each step.

    Inside a rollout only those are called that do something there. All see `locals` from the first step on, in the one
    dictionary that `learn()` keeps up to date.
    """

    def __init__(self, callbacks: Sequence[BaseCallback]) -> None:
        super().__init__(list(callbacks))
        self._inside = [each for each in callbacks if type(each)._on_step is not AtRolloutStart._on_step]

    def _on_step(self) -> bool:
        goes_on = True
        for callback in self._inside:
            goes_on = callback.on_step() and goes_on
        return goes_on

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """They have the same dictionary."""


class RotatingCheckpointCallback(AtRolloutStart):
    """Saves at the first rollout start at or after every multiple of `every` timesteps, and at the end.

    Args:
        every: timesteps between saves.
        checkpointer: saves the training as it is, and puts a resumed one back in the first rollout start.
        before_save: called before the saves at such a multiple.

    Attributes:
        start: timesteps that were trained before this session.
    """

    def __init__(self, every: int, checkpointer: Checkpointer, before_save: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.every = every
        self._before_save = before_save
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
            self._before_save()
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


class DeadlineCallback(AtRolloutStart):
    """Saves and ends the session when its clock says so. Comes before evaluations, which may take long.

    Inside a rollout that continues beyond that the session ends as well, with what was saved before it: an episode may
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


class GeneratorsCallback(AtRolloutStart):
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


class ProgressCallback(AtRolloutStart):
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
