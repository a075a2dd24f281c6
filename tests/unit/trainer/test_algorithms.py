"""A section's words become a model, or an error that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from stable_baselines3.common.env_util import make_vec_env

from kaggle_manager.errors import ConfigError
from kaggle_manager.trainer.sb3.algorithms import build_model
from kaggle_manager.trainer.sb3.env_state import EntryPoint


def build(algorithm: str, **hyperparameters: Any) -> Any:
    return build_model(algorithm, "MlpPolicy", hyperparameters, make_vec_env("CartPole-v1"), seed=1, device="cpu")


def test_frequencies_and_schedules_can_be_said_in_toml() -> None:
    model = build("DQN", train_freq=[2, "episode"], learning_rate={"linear": [1e-3, 0.0]}, buffer_size=10)
    assert (model.train_freq.frequency, model.train_freq.unit.value) == (2, "episode")
    assert [model.lr_schedule(remaining) for remaining in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 5e-4, 0.0])


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "said"),
    [
        ("DDPG", {}, "'DDPG' is not known; there are A2C, DQN, PPO, SAC, TD3"),
        ("DQN", {"learning_rte": 1e-3}, "no hyperparameter learning_rte; it has .*learning_rate"),
        ("DQN", {"learning_rate": {"cosine": [1, 0]}}, "accepted are a number and"),
        ("DQN", {"train_freq": [2, "hours"]}, "DQN refuses these hyperparameters"),
        ("SAC", {}, "SAC refuses these hyperparameters"),
    ],
)
def test_what_cannot_be_built_is_a_config_error(algorithm: str, hyperparameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(algorithm, **hyperparameters)


@pytest.mark.parametrize("target", ["no_such_module:make", "gymnasium:no_such_callable"])
def test_an_environment_that_cannot_be_imported_is_a_config_error(target: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        EntryPoint(target)()
