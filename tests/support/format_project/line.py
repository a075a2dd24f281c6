"""A point on a line, which two small agents are trained on."""

import gymnasium as gym
import numpy as np


class Line(gym.Env):
    observation_space = gym.spaces.Box(-100.0, 100.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.integers(-5, 6)), 0
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place += 2 * int(action) - 1
        self.steps += 1
        return np.array([self.place], np.float32), -abs(self.place), False, self.steps == 8, {}
