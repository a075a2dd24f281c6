"""What the accelerator gains is measured on copies: the training that follows is the one without the measurement."""

from __future__ import annotations

import gymnasium
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.trainer.sb3 import accelerator_gain
from kaggle_manager.trainer.sb3.accelerator_gain import measure_gain


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [(DQN, "CartPole-v1"), (PPO, "CartPole-v1"), (SAC, "Pendulum-v1"), (RecurrentPPO, "CartPole-v1")],
)
def test_a_gain_is_measured_and_nothing_is_touched(
    algorithm: type[BaseAlgorithm], environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator_gain, "MEASURE_S", 0.02)
    policy = "MlpLstmPolicy" if algorithm is RecurrentPPO else "MlpPolicy"
    model = algorithm(policy, gymnasium.make(environment), seed=1, device="cpu")
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    generator = torch.get_rng_state()
    gain = measure_gain(model.policy, "cpu", 32)
    assert gain > 0
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.policy.state_dict().items())
