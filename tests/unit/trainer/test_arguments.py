"""What a section says in text becomes the object it stands for, and is identified by text."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.trainer.sb3 import algorithms
from kaggle_manager.trainer.sb3.algorithms import algorithm_class, build_model, parameters_of
from kaggle_manager.trainer.sb3.arguments import action_noise, check_kind, check_schedule, hyperparameters_of, text_of


class OwnPolicy(ActorCriticPolicy):
    """A policy of the user's own."""


class Rising:
    """A schedule of the user's own."""

    def __init__(self, to: float = 1.0) -> None:
        self.to = to

    def __call__(self, remaining: float) -> float:
        return (1 - remaining) * self.to


def at_once(remaining: float) -> float:
    return remaining


def build(policy: str = "MlpPolicy", **hyperparameters: Any) -> Any:
    return build_model("PPO", policy, hyperparameters, make_vec_env("CartPole-v1"), seed=1, device="cpu")


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("lin_4", [4.0, 3.0, 2.0, 0.0]),
        ({"linear": [4.0, 2.0]}, [4.0, 3.5, 3.0, 2.0]),
        ({"piecewise": [[0.25, 4.0], [0.5, 1.0]]}, [4.0, 4.0, 1.0, 1.0]),
        ({"cosine": [4.0, 0.0]}, [4.0, 2 + 2 * 0.5**0.5, 2.0, 0.0]),
        (f"{__name__}:at_once", [1.0, 0.75, 0.5, 0.0]),
        ({f"{__name__}:Rising": {"to": 4}}, [0.0, 1.0, 2.0, 4.0]),
    ],
)
def test_a_schedule_follows_the_progress(given: Any, values: list[float]) -> None:
    model = build(learning_rate=given, clip_range=given)
    for schedule in (model.lr_schedule, model.clip_range):
        assert [schedule(1 - done) for done in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values, abs=4e-5)


def test_a_model_with_a_schedule_opens_without_this_program() -> None:
    given = {"piecewise": [[0.0, 1.0], [0.5, 0.25]]}, {"cosine": [1.0, 0.0]}, {"linear": [1.0, 0.0]}
    made = [hyperparameters_of({"learning_rate": each})["learning_rate"] for each in given]
    program = (
        "import sys, pickle; print([s(0.5) for s in pickle.load(sys.stdin.buffer)], 'kaggle_manager' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(made), capture_output=True, check=True, timeout=120
    )
    assert b"kaggle_manager" not in pickle.dumps(made)
    assert done.stdout.decode().endswith("False\n")


def test_objects_are_made_at_any_depth() -> None:
    model = build(
        f"{__name__}:OwnPolicy",
        policy_kwargs={
            "activation_fn": "torch.nn:ReLU",
            "net_arch": [8],
            "optimizer_class": "torch.optim:AdamW",
            "optimizer_kwargs": {"weight_decay": 0.5},
        },
    )
    assert isinstance(model.policy, OwnPolicy)
    assert model.policy.activation_fn is torch.nn.ReLU
    assert isinstance(model.policy.optimizer, torch.optim.AdamW)
    found = hyperparameters_of(
        {
            "replay_buffer_class": "stable_baselines3:HerReplayBuffer",
            "action_noise": {
                "stable_baselines3.common.noise:NormalActionNoise": {"mean": [0.0], "sigma": [0.1]},
            },
            "train_freq": [1, "episode"],
        }
    )
    assert found["replay_buffer_class"] is HerReplayBuffer
    assert isinstance(found["action_noise"], NormalActionNoise)
    assert found["train_freq"] == (1, "episode")


@pytest.mark.parametrize(
    ("hyperparameters", "said"),
    [
        ({"policy_kwargs": {"activation_fn": "torch.nn:Relu"}}, "hyperparameters.policy_kwargs.activation_fn: given"),
        ({"learning_rate": {f"{__name__}:Rising": {"from": 1}}}, "hyperparameters.learning_rate.*Rising: given"),
    ],
)
def test_what_cannot_be_made_is_named_by_its_key(hyperparameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(**hyperparameters)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("batch_size", "64", "a whole number"),
        ("n_steps", 2048.0, "a whole number"),
        ("ent_coef", "auto", "a number"),
        ("normalize_advantage", 1, "true or false"),
        ("target_kl", "small", "a number or nothing"),
        ("policy_kwargs", "MlpPolicy", "a table or nothing"),
        ("rollout_buffer_class", 3, "an object as module:Name or nothing"),
        ("ent_coef", {"linear": [0.1, 0.0]}, "a number"),
        ("gamma", "numpy:absolute", "a number"),
        ("n_steps", "math:floor", "a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key_in_full(name: str, value: Any, accepted: str) -> None:
    vec, given = make_vec_env("CartPole-v1"), {name: value}
    with pytest.raises(ConfigError) as error:
        build_model("PPO", "MlpPolicy", given, vec, seed=1, device="cpu", table="scenarios.cart.")
    assert error.value.message.startswith(f"scenarios.cart.hyperparameters.{name}: given ")
    assert error.value.message.endswith(f"; accepted: {accepted}")


def of_nothing() -> float:
    return 1e-3


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", "fractions:Fraction", "a number, or what returns one .* this is a class"),
        ("clip_range", f"{__name__}:of_nothing", "a number, or what returns one .* too many positional arguments"),
        ("policy_kwargs.activation_fn", {"torch.nn:ReLU": {}}, "what PPO takes: ReLU.forward"),
        ("policy_kwargs.net_arch", "64", "what PPO takes: empty"),
        ("policy_kwargs.net_arch", [-1], "what PPO takes: RuntimeError: Trying to create tensor with negative"),
        ("rollout_buffer_class", "stable_baselines3.common.buffers:ReplayBuffer", "what PPO takes: .*'gamma'"),
        ("batch_size", 0, "what PPO takes: `batch_size` must be greater than 1"),
    ],
)
def test_what_an_algorithm_refuses_is_named_by_its_key_in_full(name: str, value: Any, said: str) -> None:
    key, _, inner = name.partition(".")
    given = {"n_steps": 64, key: {inner: value, "ortho_init": False} if inner else value}
    vec = make_vec_env("CartPole-v1")
    with pytest.raises(ConfigError, match=rf"^scenarios\.cart\.hyperparameters\.{name}: given .*; accepted: {said}"):
        build_model("PPO", "MlpPolicy", given, vec, seed=1, device="cpu", table="scenarios.cart.")


def test_a_schedule_is_not_called_before_the_training_for_it_may_count() -> None:
    seen: list[float] = []

    def counting(progress: float) -> float:
        seen.append(progress)
        return 1e-3

    check_schedule(counting, parameters_of(algorithm_class("PPO"))["clip_range"].annotation, "clip_range")
    assert seen == []


def test_every_default_of_every_algorithm_is_of_its_kind() -> None:
    for name in NAMES:
        for key, parameter in parameters_of(algorithm_class(name)).items():
            if parameter.default is not parameter.empty:
                check_kind(parameter.default, parameter.annotation, key)
    check_kind("auto_0.1", parameters_of(algorithm_class("SAC"))["ent_coef"].annotation, "ent_coef")
    check_kind(1, parameters_of(algorithm_class("PPO"))["learning_rate"].annotation, "learning_rate")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("torch.nn:ReLU", "a class derived from stable_baselines3.common.policies:BasePolicy"),
        ("math:floor", "a class derived from stable_baselines3.common.policies:BasePolicy"),
        ("CnnPolicy", r"You should use NatureCNN only with images[\s\S]* for Box\(.*\) it is MlpPolicy"),
        ("MultiInputPolicy", r"AttributeError: 'Box' object has no attribute 'spaces'; for Box\(.*\) it is MlpPolicy"),
    ],
)
def test_a_policy_that_does_not_fit_is_named_by_its_key_in_full(policy: str, said: str) -> None:
    vec = make_vec_env("CartPole-v1")
    with pytest.raises(ConfigError, match=rf"^scenarios\.cart\.policy: given '{policy}'; accepted: {said}"):
        build_model("PPO", policy, {}, vec, seed=1, device="cpu", table="scenarios.cart.")


def test_what_says_nothing_of_the_section_is_not_refused_but_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any, device: str, **__: Any) -> Any:
        if device != "cpu":
            raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(algorithms, "algorithm_class", lambda _: out_of_memory)
    monkeypatch.setattr(algorithms, "parameters_of", lambda _: {})
    monkeypatch.setattr(algorithms, "policy_of", lambda _, policy, __: policy)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        build_model("PPO", "MlpPolicy", {}, make_vec_env("CartPole-v1"), seed=1, device="cuda")


def test_a_policy_that_is_not_known_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match="policy: given 'MlpPolice'; accepted: MlpPolicy, CnnPolicy, Multi"):
        build("MlpPolice")


def test_noise_is_on_each_action_and_only_where_these_are_continuous() -> None:
    pendulum, cart = make_vec_env("Pendulum-v1"), make_vec_env("CartPole-v1")
    model = build_model("TD3", "MlpPolicy", {}, pendulum, seed=1, device="cpu", noise=("ornstein-uhlenbeck", 0.3))
    assert np.array_equal(model.action_noise._sigma, [0.3])  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"noise: given .* nothing for actions of Discrete"):
        action_noise("normal", 0.1, cart.action_space)


def test_the_text_of_an_object_has_no_address() -> None:
    texts = text_of({"a": at_once, "b": Rising(2.0), "c": OwnPolicy, "d": [torch.nn.ReLU], "e": np.zeros(2)})
    assert texts == {
        "a": f"{__name__}:at_once",
        "b": {f"{__name__}:Rising": {"to": 2.0}},
        "c": f"{__name__}:OwnPolicy",
        "d": ["torch.nn.modules.activation:ReLU"],
        "e": [0.0, 0.0],
    }
    assert "0x" not in str(text_of(hyperparameters_of({"learning_rate": {"cosine": [1, 0]}})))
