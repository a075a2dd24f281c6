"""Evaluations beside the training: of a copy of the model, on the CPU, in a process of its own.

Where there is no such process (no fork on this system), or the environment cannot be played in it, they happen in the
training's, when their result is wanted. The result is the same: both make the model anew from the copy, and both are
computed with one thread.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.system import garbage
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.sb3 import determinism, env_state
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.evaluation import Evaluation, Evaluator, no_trace
from kaggle_manager.trainer.sb3.model_copy import ModelCopy
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess, is_wanted

# So often the training looks at its clock while it waits.
_LOOK_EVERY_S = 0.2
# What an evaluation that nobody waits for any more may take to close its environments.
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class EvaluationOrder:
    """What to evaluate, and how.

    Attributes:
        model: the copy.
        algorithm: its class.
        mode, seed, all_alike: see `Evaluator`.
        environments: the same, where they were not known when the process began; else None.
    """

    model: ModelCopy
    algorithm: type[BaseAlgorithm]
    mode: env_state.Mode
    seed: int
    all_alike: bool
    environments: Environments | None = None


@dataclass(frozen=True)
class Evaluated:
    """What came of it, and the seconds it took."""

    evaluation: Evaluation
    seconds: float


class GivenUp(Exception):
    """Nobody waits for this evaluation any more."""


@dataclass
class Evaluating:
    """Carries out orders, in whichever process it is called.

    Attributes:
        evaluator: what is the same in all of them: environment, episodes.
        last_observation: see `Evaluator`.
    """

    evaluator: Evaluator
    last_observation: Any = None

    def __call__(self, order: EvaluationOrder, each_step: Callable[[], None] | None = None) -> Evaluated:
        """Evaluate.

        Args:
            each_step: called before each step; what it raises ends the evaluation.

        Raises:
            GivenUp: nobody waits for it.
            Exception: of the environment or the policy.
        """
        started = time.monotonic()
        determinism.make_deterministic("cpu")
        evaluator = replace(
            self.evaluator,
            mode=order.mode,
            seed=order.seed,
            all_alike=order.all_alike,
            environments=order.environments or self.evaluator.environments,
            statistics=order.model.normalised,
        )
        model = self._model(order, evaluator)
        try:
            evaluation = evaluator(model, each_step or _go_on)
        finally:
            self.last_observation = evaluator.last_observation
            if (made_with := model.get_env()) is not None:
                env_state.close(made_with)
        return Evaluated(evaluation, time.monotonic() - started)

    def _model(self, order: EvaluationOrder, evaluator: Evaluator) -> BaseAlgorithm:
        try:
            return order.model.load(order.algorithm)
        except Exception:  # an algorithm of the user's may not know how to be made without an environment
            return order.model.load(order.algorithm, evaluator.environment(range(1)))


def _go_on() -> None:
    if not is_wanted():
        raise GivenUp


class Evaluations:
    """One evaluation at a time, of the copies of one training.

    Make it before there is anything to inherit, see `WorkerProcess`; `of` says what is known later.
    """

    def __init__(self, evaluating: Evaluating) -> None:
        # The first optimizer of a process imports it, which takes seconds: once, for the training and its evaluations.
        with garbage.importing():
            importlib.import_module("torch._dynamo")
        self._evaluating = evaluating
        self._process = WorkerProcess(evaluating, "evaluates policies", niceness=0, patience_s=_PATIENCE_S)
        self._is_apart = self._process.is_apart
        self._order: Callable[[ModelCopy], EvaluationOrder]
        self._training: BaseAlgorithm

    def of(
        self,
        training: BaseAlgorithm,
        mode: env_state.Mode,
        seed: int,
        *,
        all_alike: bool,
        environments: Environments | None = None,
    ) -> None:
        """Whose copies they are; the rest as in `EvaluationOrder`."""
        self._training = training
        self._order = lambda model: EvaluationOrder(model, type(training), mode, seed, all_alike, environments)

    @property
    def last_observation(self) -> Any:
        """What the policy was shown last in an evaluation that an exception has ended."""
        return self._evaluating.last_observation

    def begin(self, model: ModelCopy) -> None:
        """Begin to evaluate; `result` follows before the next one."""
        if self._is_apart:
            try:
                self._process.start(self._order(model))
            except Exception as error:  # it is gone, or something of the order has no pickle
                self._not_apart(error)

    def result(self, model: ModelCopy, check: Callable[[float], None], seconds: float = 0.0) -> Evaluated:
        """Wait for what `begin` has begun.

        Args:
            check: called now and then meanwhile, with the seconds that it will take at least; may raise.
            seconds: what the last one took.

        Raises:
            Exception: of the environment or the policy.
        """
        while self._is_apart:
            check(0.0)
            try:
                if (found := self._process.look(_LOOK_EVERY_S)) is not None:
                    return found
            except Exception as error:
                self._not_apart(error)
        check(seconds)
        with no_trace(self._training):
            return self._evaluating(self._order(model), lambda: check(0.0))

    def _not_apart(self, error: Exception) -> None:
        self._is_apart = False
        self.close()
        told = env_state.told(error).partition("\n")[0]
        warn(f"evaluations are not made beside the training, for in a process of its own one failed: {told}.")

    def close(self) -> None:
        """End the process; an evaluation under way is given up."""
        self._process.close()
