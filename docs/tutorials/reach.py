"""The environment of the tutorial "Your own environment": its observation is a dictionary."""

import gymnasium as gym
import numpy as np


class Reach(gym.Env):
    """A point moves in a square; it must reach a goal in as few steps as possible."""

    def __init__(self, episode_steps=50):
        place = gym.spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.observation_space = gym.spaces.Dict({"position": place, "goal": place})
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.episode_steps = episode_steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1, 1, size=(2, 2)).astype(np.float32)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.position = np.clip(self.position + 0.1 * np.asarray(action, dtype=np.float32), -1, 1)
        self.steps += 1
        distance = float(np.linalg.norm(self.position - self.goal))
        return self.observe(), -distance, distance < 0.05, self.steps >= self.episode_steps, {}

    def observe(self):
        return {"position": self.position.copy(), "goal": self.goal.copy()}
