"""An arm of two joints in a plane, which is to bring its hand to a goal: a Dict observation, and a sparse reward."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Arm(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Two links of length 0.5, from the middle of the plane; an action turns each joint by up to 0.2 radians.

    Observation: `observation`, sine and cosine of each joint's angle; `achieved_goal`, where the hand is;
    `desired_goal`, where it should be. Reward: 0 while the hand is within 0.1 of the goal, else -1.

    Args:
        episode_steps: length of an episode.
    """

    def __init__(self, episode_steps: int = 50) -> None:
        place = gym.spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        joints = gym.spaces.Box(-1.0, 1.0, shape=(4,), dtype=np.float32)
        self.observation_space = gym.spaces.Dict({"observation": joints, "achieved_goal": place, "desired_goal": place})
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(2,), dtype=np.float32)
        self.episode_steps = episode_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        # A goal is where the hand is at some angles, so that each can be reached.
        self._angles, angles_at_goal = self.np_random.uniform(-np.pi, np.pi, size=(2, 2))
        self._goal, self._step = hand(angles_at_goal), 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._angles = self._angles + 0.2 * np.asarray(action, dtype=np.float64)
        self._step += 1
        seen = self._observation()
        reward = float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}))
        return seen, reward, False, self._step >= self.episode_steps, {}

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """HerReplayBuffer asks for many goals at once, one in each row."""
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.1).astype(np.float32)

    def _observation(self) -> dict[str, np.ndarray]:
        joints = np.concatenate([np.sin(self._angles), np.cos(self._angles)])
        return {
            "observation": joints.astype(np.float32),
            "achieved_goal": hand(self._angles),
            "desired_goal": self._goal.copy(),
        }


def hand(angles: np.ndarray) -> np.ndarray:
    """The place of the hand when the joints are at these angles, the second one relative to the first link."""
    first, both = angles[0], angles[0] + angles[1]
    place = 0.5 * np.array([np.cos(first) + np.cos(both), np.sin(first) + np.sin(both)])
    return np.clip(place, -1, 1).astype(np.float32)
