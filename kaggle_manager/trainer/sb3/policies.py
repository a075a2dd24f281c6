"""Which policy of Stable-Baselines3 fits which observations. Imports torch only where an image has to be told."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


def policy_for(space: gym.Space[Any], algorithm: str = "PPO") -> str:
    """The policy for observations of `space`, as the algorithm calls it."""
    return _policy_for(space).replace("Policy", "LstmPolicy" if algorithm == "RecurrentPPO" else "Policy")


def _policy_for(space: gym.Space[Any]) -> str:
    if isinstance(space, gym.spaces.Dict):
        return "MultiInputPolicy"
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3:
        from stable_baselines3.common.preprocessing import is_image_space

        return "CnnPolicy" if is_image_space(space) else "MlpPolicy"
    return "MlpPolicy"
