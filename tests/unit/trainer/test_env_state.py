"""A saved environment goes on as the original would, its random generators and their children included."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kaggle_manager.trainer.sb3 import env_state


class Drawing(gym.Env[Any, Any]):
    """Draws from generators of several kinds, one of them shared by two names, and from children of one."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.mersenne = np.random.Generator(np.random.MT19937(self.np_random.integers(2**31)))
        self.alias = self.mersenne
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        [child] = self.np_random.spawn(1)
        drawn = [self.np_random.random(), self.mersenne.random(), self.alias.random(), child.random()]
        return np.array(drawn, np.float32), 0.0, False, False, {}


def make() -> Drawing:
    return Drawing()


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_generators_and_their_children_draw_on(steps: int) -> None:
    original = env_state.make_vec_env(make, "pickle", 1)
    copy = env_state.make_vec_env(make, "pickle", 2)
    original.reset()
    copy.reset()
    for _ in range(steps):
        original.step(np.array([0]))
    env_state.restore(copy, env_state.collect(original, "pickle"))
    for _ in range(5):
        assert original.step(np.array([1]))[0].tobytes() == copy.step(np.array([1]))[0].tobytes()
