"""Makes the files in this folder; run with the Stable-Baselines3 that their names tell, 1.6.2 with gym 0.21.0.

PYTHONPATH=FOLDER_WITH_THAT_VERSION python make.py
"""

from __future__ import annotations

import stable_baselines3
import torch
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

VERSION = stable_baselines3.__version__
if VERSION.startswith("1."):
    import gym
else:
    import gymnasium as gym


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 4)
        self.net = torch.nn.Linear(4, 4)

    def forward(self, observations):
        return self.net(observations)


vec = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
chosen = {"buffer_size": 150, "learning_starts": 20, "policy_kwargs": {"net_arch": [8]}}
model = DQN("MlpPolicy", vec, seed=1, device="cpu", **chosen).learn(100)
model.save(f"dqn_{VERSION}.zip")
model.save_replay_buffer(f"dqn_{VERSION}_replay_buffer.pkl")
vec.save(f"dqn_{VERSION}_vecnormalize.pkl")
if VERSION.startswith("1."):
    chosen = {"net_arch": [{"pi": [8], "vf": [8]}], "features_extractor_class": Extractor}
    A2C("MlpPolicy", "CartPole-v1", seed=1, device="cpu", policy_kwargs=chosen).learn(50).save(f"a2c_{VERSION}.zip")
