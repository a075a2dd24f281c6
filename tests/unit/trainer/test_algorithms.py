"""A section's words become a model, or an error that names what is wrong."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.dqn.policies import DQNPolicy

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.trainer.sb3.algorithms import algorithm_class, build_model
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.model_file import read_policy, snapshot


def build(algorithm: str, **hyperparameters: Any) -> Any:
    return build_model(algorithm, "MlpPolicy", hyperparameters, make_vec_env("CartPole-v1"), seed=1, device="cpu")


def test_frequencies_and_schedules_can_be_said_in_toml() -> None:
    model = build("DQN", train_freq=[2, "episode"], learning_rate={"linear": [1e-3, 0.0]}, buffer_size=10)
    assert (model.train_freq.frequency, model.train_freq.unit.value) == (2, "episode")
    assert [model.lr_schedule(remaining) for remaining in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 5e-4, 0.0])


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "said"),
    [
        ("ddpg", {}, "'ddpg' is not known; there are A2C, DDPG, .*TRPO, or a class of your own as module:Class"),
        ("nowhere:Algorithm", {}, "'nowhere:Algorithm' cannot be imported: No module named 'nowhere'"),
        ("stable_baselines3:Nothing", {}, "cannot be imported: .*Nothing"),
        ("gymnasium:make", {}, "'gymnasium:make' is no class derived from Stable-Baselines3's BaseAlgorithm"),
        (f"{__name__}:Bolder", {"bold": 1}, "no hyperparameter bold; it has batch_size, boldness, .*n_steps"),
        ("DQN", {"learning_rte": 1e-3}, "no hyperparameter learning_rte; it has .*learning_rate"),
        ("DQN", {"learning_rate": {"cosine": [1]}}, "learning_rate: given .* accepted: { cosine = .first, last. }"),
        ("DQN", {"train_freq": [2, "hours"]}, "hyperparameters.train_freq: given .*; accepted: what DQN takes: "),
        (
            *("SAC", {}),
            r"SAC takes no Discrete .* that do: A2C, DQN, PPO, ARS, MaskablePPO, QRDQN, RecurrentPPO, TRPO\.",
        ),
    ],
)
def test_what_cannot_be_built_is_a_config_error(algorithm: str, hyperparameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(algorithm, **hyperparameters)


class Bolder(PPO):
    """As many write one: its own argument, and whatever the one above takes."""

    def __init__(self, *args: Any, boldness: float = 1.0, **kwargs: Any) -> None:
        self.boldness = boldness
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize("name", [*NAMES, f"{__name__}:Bolder"])
def test_every_algorithm_is_found_by_its_name(name: str) -> None:
    assert algorithm_class(name).__name__ == name.rpartition(":")[2]


def test_a_class_of_ones_own_takes_its_hyperparameters_and_those_of_the_class_above() -> None:
    model = build(f"{__name__}:Bolder", boldness=2.0, n_steps=16, batch_size=8)
    assert (model.boldness, model.n_steps) == (2.0, 16)


def test_an_algorithm_whose_package_is_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(ConfigError, match="TQC is an algorithm of sb3-contrib, which cannot be imported") as refused:
        build("TQC")
    assert 'add "sb3-contrib==' in refused.value.next_step


@pytest.mark.parametrize("target", ["no_such_module:make", "gymnasium:no_such_callable"])
def test_an_environment_that_cannot_be_imported_is_a_config_error(target: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        EntryPoint(target)()


class OwnPolicy(DQNPolicy):
    """What a user may bring; a section names it as module:Class."""


def test_a_policy_of_the_users_own_is_read_from_a_model_file_as_the_section_declares_it() -> None:
    policy = f"{__name__}:OwnPolicy"
    given = {"policy_kwargs": {"net_arch": [8], "activation_fn": "torch.nn:Tanh"}, "learning_rate": {"linear": [1, 0]}}
    env = make_vec_env("CartPole-v1")
    model = build_model("DQN", policy, given, env, seed=1, device="cpu")
    found = read_policy(snapshot(model).to_bytes(), "DQN", policy, given, env.observation_space, env.action_space)
    assert type(found) is OwnPolicy
    observations = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    assert list(found.predict(observations)[0]) == list(model.predict(observations, deterministic=True)[0])
    state = model.policy.state_dict()
    assert all(bool((value == state[name]).all()) for name, value in found.state_dict().items())
