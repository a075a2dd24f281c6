"""The environment of this section. Edit it, then: km preflight custom_environment

A point on a line is blown about; the agent pushes it to keep it near the middle.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Environment(gym.Env[np.ndarray, Any]):
    """Observation: position and speed. Action: a push, -1 to 1. Reward: minus the distance.

    Args:
        episode_steps: length of an episode.
    """

    def __init__(self, episode_steps: int = 100) -> None:
        self.observation_space = gym.spaces.Box(-10.0, 10.0, shape=(2,), dtype=np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        self.episode_steps = episode_steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        # All chance comes from self.np_random: so what a checkpoint keeps of an episode goes on exactly.
        self._position, self._speed, self._step = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        push = float(action[0])
        self._speed = 0.9 * self._speed + 0.1 * push + 0.05 * float(self.np_random.normal())
        self._position = float(np.clip(self._position + self._speed, -10, 10))
        self._step += 1
        return self._observation(), -abs(self._position), False, self._step >= self.episode_steps, {}

    def _observation(self) -> np.ndarray:
        return np.clip([self._position, self._speed], -10, 10).astype(np.float32)
