"""How fast several environments step in this process, and each in one of its own, on this machine.

A process for each costs a message for each step, which an environment of microseconds does not pay back; a simulator
of milliseconds does.
"""

from __future__ import annotations

import time
from dataclasses import replace

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import acting, env_state
from kaggle_manager.trainer.sb3.algorithms import algorithm_class
from kaggle_manager.trainer.sb3.environments import Environments, environments_of

MEASURE_S = 1.0
SEED = 101


def measure_vec_env(
    scenario: ScenarioConfig, here: Environments | None = None, seconds: float = MEASURE_S
) -> dict[str, float]:
    """Steps a second over all environments, by what `vec_env` can be.

    Args:
        here: those to step in this process; by default they are made.

    Raises:
        Exception: whatever the environment raises.
    """
    return speeds_of(environments_of(scenario), algorithm_class(scenario.algorithm), here, seconds)


def speeds_of(
    made: Environments, algorithm: type[BaseAlgorithm], here: Environments | None = None, seconds: float = MEASURE_S
) -> dict[str, float]:
    """As `measure_vec_env`, of environments that are `made` this way."""
    asks, found = acting.takes_masks(algorithm), {}
    for kind, environments in (
        ("dummy", here or made.in_this_process()),
        ("subproc", replace(made, processes=True)),
    ):
        vec = environments.vectorised("none", SEED)
        try:
            found[kind] = _steps_per_s(vec, asks, seconds)
        finally:
            env_state.close(vec)
    return found


def _steps_per_s(vec: VecEnv, asks: bool, seconds: float) -> float:
    vec.reset()
    _step(vec, asks)  # the first one is slower
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        _step(vec, asks)
        steps += vec.num_envs
    return steps / (time.perf_counter() - began)


def _step(vec: VecEnv, asks: bool) -> None:
    allowed = vec.env_method(acting.MASKS) if asks else [None] * vec.num_envs
    vec.step([acting.sampled(vec.action_space, mask) for mask in allowed])  # type: ignore[arg-type]
