"""How much an accelerator can gain at most, estimated on a machine without one, before a session is spent on it.

A GPU does nothing for the environment, only for the network: that is a measured share of a timestep. And it needs its
time for each operation, however small: a network of few numbers is no faster there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from torch.utils._python_dispatch import TorchDispatchMode

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.system.arithmetic import THREADS
from kaggle_manager.trainer.sb3 import algorithms
from kaggle_manager.trainer.sb3.environments import Environments, environments_of

LAUNCH_S = 5e-6
"""What a GPU needs at least for an operation of torch: the launch of one kernel, as NVIDIA publishes it (some 5 us)."""

MEASURE_S = 1.0
PATIENCE_S = 5.0
"""So long the updates of each second to be measured may take, and the first of all."""

FEW_ROWS = 1000
SEED = 101


@dataclass(frozen=True)
class NetworkShare:
    """What a timestep costs here.

    Attributes:
        step_s: seconds of a timestep, its part of the updates with it.
        network_s: of them, in the network: actions and updates.
        operations: of torch in that part.
    """

    step_s: float
    network_s: float
    operations: float

    @property
    def share(self) -> float:
        return self.network_s / self.step_s

    @property
    def gain_at_most(self) -> float:
        """How many times as fast as here it can train with a GPU: the rest of a timestep stays, and the launches."""
        return self.step_s / (self.step_s - self.network_s + min(self.network_s, self.operations * LAUNCH_S))


def measure_share(
    scenario: ScenarioConfig,
    environments: Environments | None = None,
    *,
    device: str = "cpu",
    seconds: float | None = None,
) -> NetworkShare | None:
    """Train a little, of the network and the environment as they are; None when its updates take too long.

    Args:
        environments: to train in; by default as the scenario says.
        device: of torch.
        seconds: to measure for; by default `MEASURE_S`.

    Raises:
        Exception: whatever the environment raises, or the algorithm.
    """
    torch.set_num_threads(THREADS)  # as every training has it
    environments = environments or environments_of(scenario).in_this_process()
    vec = environments.vectorised("none", SEED)
    with contextlib.closing(vec):
        given = _shortened(scenario)
        model = algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=SEED, device=device)
        return _measured(model, seconds)


def share_of_built(model: BaseAlgorithm, seconds: float | None = None) -> NetworkShare | None:
    """As `measure_share`, of a model that a function of the user's has made; it is of no other use afterwards."""
    torch.set_num_threads(THREADS)
    if hasattr(model, "learning_starts") and not isinstance(getattr(model, "replay_buffer", None), HerReplayBuffer):
        model.learning_starts = 1
    if (rate := getattr(model, "exploration_final_eps", None)) is not None:  # as in `_shortened`
        model.exploration_schedule = lambda _: rate  # type: ignore[attr-defined]
    return _measured(model, seconds)


def _measured(model: BaseAlgorithm, seconds: float | None) -> NetworkShare | None:
    if not hasattr(model, "train"):  # ARS has no gradients
        return None
    return _Watch(model, MEASURE_S if seconds is None else seconds).measure()


def _shortened(scenario: ScenarioConfig) -> dict[str, Any]:
    """The same work in a timestep, in rollouts as short as they can be, and from the first timestep on."""
    given, capacity = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
    takes = algorithms.parameters_of(algorithms.algorithm_class(scenario.algorithm))
    if capacity:
        if "replay_buffer_class" not in given:  # HerReplayBuffer has nothing to learn from before an episode is over
            given["learning_starts"] = 1
        given["buffer_size"] = min(capacity, max(FEW_ROWS, 2 * given.get("learning_starts", 0)))
        if "exploration_initial_eps" in takes:  # a random action costs nothing, and most of a training's are not
            given["exploration_initial_eps"] = given.get("exploration_final_eps", 0.05)
    elif {"batch_size", "n_steps"} <= takes.keys():
        given["batch_size"] = given.get("batch_size", takes["batch_size"].default)
        steps_each = -(-given["batch_size"] // scenario.n_envs)
        given["n_steps"] = min(given.get("n_steps", takes["n_steps"].default), steps_each)
    return given


class _Watch:
    """A model that measures itself while it learns: whole rounds, each from the end of an update to the next one's."""

    def __init__(self, model: BaseAlgorithm, seconds: float) -> None:
        self._model, self._seconds = model, seconds
        self._counted = _Operations()
        self._inside = False
        self._network_s = 0.0
        self._rounds: list[tuple[float, int, float]] = []  # the clock, the timestep and the network's seconds at each
        model.train = self._timed(model.train, ends_round=True)  # type: ignore[attr-defined]
        for name in ("forward", "predict"):
            setattr(model.policy, name, self._timed(getattr(model.policy, name)))

    def measure(self) -> NetworkShare | None:
        deadline = time.perf_counter() + PATIENCE_S * (1 + self._seconds)
        with contextlib.suppress(_Enough):
            self._model.learn(1 << 40, callback=lambda *_: time.perf_counter() < deadline)
        if len(self._rounds) < 3:
            return None
        (_, first, _), (began, second, network), (ended, last, network_last) = *self._rounds[:2], self._rounds[-1]
        steps = last - second
        return NetworkShare(
            step_s=(ended - began) / steps,
            network_s=(network_last - network) / steps,
            operations=self._counted.number / (second - first),
        )

    def _timed(self, call: Callable[..., Any], *, ends_round: bool = False) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return call(*arguments, **options)
            self._inside, began = True, time.perf_counter()
            try:
                # The second round is counted, which slows it; the others are timed.
                with self._counted if len(self._rounds) == 1 else contextlib.nullcontext():
                    return call(*arguments, **options)
            finally:
                self._inside = False
                self._network_s += time.perf_counter() - began
                if ends_round:
                    self._end_round()

        return timed

    def _end_round(self) -> None:
        now = time.perf_counter()
        self._rounds.append((now, self._model.num_timesteps, self._network_s))
        if len(self._rounds) > 2 and now - self._rounds[1][0] >= self._seconds:
            raise _Enough


class _Enough(Exception):
    """Enough was measured."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the operations of torch that are carried out inside, backwards passes and optimizers with them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))
