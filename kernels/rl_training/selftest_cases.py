"""The trainings of the proof: every algorithm, and the options that keep state of their own.

All are small: a few hundred steps, replay buffers that come round during the test so that old rows are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from kernels.rl_training.env_state import EntryPoint

_CARTPOLE = EntryPoint("gymnasium:make", {"id": "CartPole-v1"})
_PENDULUM = EntryPoint("gymnasium:make", {"id": "Pendulum-v1"})
_SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}


class Simulator(gym.Env[Any, Any]):
    """Stands for a simulator in native code: CartPole behind an object that cannot be pickled."""

    def __init__(self) -> None:
        self._inner = gym.make("CartPole-v1")
        self.observation_space, self.action_space = self._inner.observation_space, self._inner.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._inner.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return self._inner.step(action)

    def __reduce__(self) -> Any:
        raise TypeError("a simulator cannot be pickled")


def _off_policy(**more: Any) -> dict[str, Any]:
    # Small buffers, so that the ring comes round and old rows are overwritten during the test.
    return {"learning_starts": 60, "buffer_size": 400, "batch_size": 16, **_SMALL, **more}


def _ornstein_uhlenbeck() -> OrnsteinUhlenbeckActionNoise:
    return OrnsteinUhlenbeckActionNoise(mean=np.zeros(1), sigma=0.2 * np.ones(1))


def _normalize(vec: VecEnv) -> VecEnv:
    return VecNormalize(vec)


@dataclass(frozen=True)
class Case:
    """One training of the proof; `hyperparameters` is called in the process that trains."""

    algorithm: str
    environment: EntryPoint
    total: int
    hyperparameters: Callable[[], dict[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "dqn": Case(
        "DQN", _CARTPOLE, 1200, lambda: _off_policy(train_freq=4, target_update_interval=70, exploration_fraction=0.5)
    ),
    "dqn-replay": Case(
        "DQN",
        EntryPoint("kernels.rl_training.selftest_cases:Simulator"),
        800,
        lambda: _off_policy(train_freq=2, target_update_interval=70),
    ),
    "sac": Case("SAC", _PENDULUM, 350, _off_policy),
    "td3": Case("TD3", _PENDULUM, 400, lambda: _off_policy(action_noise=_ornstein_uhlenbeck())),
    "ppo": Case(
        "PPO",
        _CARTPOLE,
        1280,
        lambda: {"n_steps": 32, "batch_size": 32, "n_epochs": 3, "learning_rate": {"linear": [1e-3, 1e-5]}, **_SMALL},
        {"n_envs": 2},
    ),
    "a2c": Case("A2C", _CARTPOLE, 1000, lambda: dict(_SMALL), {"n_envs": 2}),
    "dqn-environments": Case(
        "DQN", _CARTPOLE, 1200, lambda: _off_policy(target_update_interval=70, n_steps=3), {"n_envs": 4}
    ),
    "dqn-workers": Case(
        "DQN", _CARTPOLE, 600, lambda: _off_policy(target_update_interval=70), {"n_envs": 2, "processes": True}
    ),
    "dqn-compact": Case(
        "DQN",
        _CARTPOLE,
        900,
        lambda: _off_policy(
            train_freq=[1, "episode"],
            gradient_steps=-1,
            target_update_interval=70,
            optimize_memory_usage=True,
            replay_buffer_kwargs={"handle_timeout_termination": False},
        ),
    ),
    "dqn-hindsight": Case(
        "DQN",
        EntryPoint("stable_baselines3.common.envs:BitFlippingEnv", {"n_bits": 6, "max_steps": 6, "continuous": False}),
        700,
        lambda: _off_policy(replay_buffer_class=HerReplayBuffer, target_update_interval=70),
        {"policy": "MultiInputPolicy"},
    ),
    "sac-normalized": Case("SAC", _PENDULUM, 400, _off_policy, {"n_envs": 2, "wrap": _normalize}),
    "sac-gsde": Case("SAC", _PENDULUM, 300, lambda: _off_policy(use_sde=True, train_freq=5)),
    "ppo-gsde": Case(
        "PPO", _PENDULUM, 960, lambda: {"n_steps": 40, "batch_size": 40, "n_epochs": 2, "use_sde": True, **_SMALL}
    ),
    "ppo-normalized": Case(
        "PPO",
        _CARTPOLE,
        1280,
        lambda: {"n_steps": 32, "batch_size": 32, "n_epochs": 2, **_SMALL},
        {"n_envs": 2, "wrap": _normalize},
    ),
}

# One for each algorithm, and the way the traffic simulator is put back.
SHIPPED = ("dqn", "dqn-replay", "sac", "td3", "ppo", "a2c")
