"""An environment is looked at without training in it: what is wrong is named, in Stable-Baselines3's words first."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO

from kaggle_manager.sections.model import Kernel, ScenarioConfig, Section
from kaggle_manager.trainer.sb3 import env_check, evaluation_share, preflight
from kaggle_manager.trainer.sb3.env_check import Effort, Pool, check_env, check_environment, check_settings
from kaggle_manager.trainer.sb3.policies import policy_for


class Strange(gym.Env[np.ndarray, int]):
    """An environment with one thing wrong."""

    made: ClassVar[list[str]] = []

    def __init__(self, wrong: str = "") -> None:
        if wrong == "made":
            raise RuntimeError("no licence")
        self.made.append("made")
        self.wrong, self.late = wrong, False
        self.observation_space = gym.spaces.Box(-1, 1, (2,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def close(self):
        self.made.append("closed")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation = np.zeros(3 if self.wrong == "shape" and self.late else 2, np.float32)
        self.late = True
        return observation, {}

    def step(self, action):
        if self.wrong == "warns":
            warnings.warn("friction is not supported by this engine", UserWarning, stacklevel=1)
        if self.wrong == "step":
            raise KeyError("joint")
        reward = float("nan") if self.wrong == "nan" else float(self.wrong != "flat" and action)
        return np.zeros(2, np.float32), reward, False, self.wrong != "endless", {}


@pytest.mark.parametrize(
    ("wrong", "algorithm", "check", "words"),
    [
        ("made", "PPO", "environment can be made", "RuntimeError: no licence"),
        ("shape", "PPO", "Stable-Baselines3's check_env", "(3,)"),
        ("nan", "PPO", "resets and steps", "a reward is nan"),
        ("step", "PPO", "Stable-Baselines3's check_env", "KeyError: 'joint'"),
        ("endless", "PPO", "an episode ends", "TimeLimit"),
        ("", "SAC", "SAC accepts the environment", "SAC takes no Discrete actions"),
    ],
)
def test_what_is_wrong_with_an_environment_is_found_without_training(
    wrong: str, algorithm: str, check: str, words: str
) -> None:
    effort = Effort(steps=200, look_s=60.0, training_s=60.0)
    failed = [result for result in check_environment(scenario(wrong, algorithm), effort) if not result.ok]
    assert [result.name for result in failed] == [check]
    assert words in failed[0].detail


class Goal(gym.Env[Any, Any]):
    """What HER trains in: the reward is that of a goal."""

    action_space = gym.spaces.Discrete(2)
    place = gym.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gym.spaces.Dict(observation=place, achieved_goal=place, desired_goal=place)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        seen = self.seen()
        return seen, float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})), True, False, {}

    def seen(self):
        return {name: self.np_random.uniform(-1, 1, 2).astype(np.float32) for name in self.observation_space.spaces}

    def compute_reward(self, achieved, desired, _):
        return -np.linalg.norm(achieved - desired, axis=-1)


def test_an_environment_with_goals_is_checked_through_the_wrappers_around_it() -> None:
    assert check_env(gym.wrappers.TimeLimit(Goal(), 5), masked=False) == (True, "no objections")


@pytest.mark.filterwarnings("ignore:friction is not supported:UserWarning")
def test_what_a_simulator_says_it_does_not_support_is_shown_and_no_failure() -> None:
    results = list(check_environment(scenario("warns", "PPO")))
    assert all(result.ok for result in results), results
    assert results[0].detail == "WARNING: friction is not supported by this engine"


@pytest.mark.parametrize("environment", ["gymnasium:make", "gymnasium:Nope", "nowhere:Env"])
def test_an_environment_that_is_not_there_is_told_apart_from_one_that_does_not_work(environment: str) -> None:
    kwargs = {"id": "NoSuch-v9"} if environment == "gymnasium:make" else {}
    absent = scenario("", "PPO").model_copy(update={"environment": environment, "environment_kwargs": kwargs})
    [result] = check_environment(absent)
    assert result.name == "environment can be imported"
    assert ("install the package that brings it and pin that" in result.detail) is (environment == "nowhere:Env")


def test_rewards_that_never_vary_are_told_but_not_judged() -> None:
    _, first, *_ = check_environment(scenario("flat", "DQN"))
    assert first.ok
    assert "look at the reward" in first.detail
    _, first, *_ = check_environment(scenario("", "DQN"))
    assert "2 distinct rewards" in first.detail
    assert "look at" not in first.detail


class Spaced(gym.Env[Any, int]):
    """Observations drawn from a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: str) -> None:
        self.observation_space = SPACES[space]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), np.float32(1.0), np.bool_(True), np.bool_(False), {}


SPACES: dict[str, spaces.Space[Any]] = {
    "hour from 1": spaces.Dict({"hour": spaces.Discrete(24, start=1), "speed": spaces.Box(-1, 1, (2,))}),
    "no dimension": spaces.Box(-1, 1, ()),
    "no dimension in a key": spaces.Dict({"speed": spaces.Box(-1, 1, ())}),
    "from 1": spaces.Discrete(3, start=1),
    "several from 1": spaces.MultiDiscrete([3, 4], start=[1, 1]),
    "tuple": spaces.Tuple((spaces.Discrete(2),)),
    "nested": spaces.Dict({"outer": spaces.Dict({"inner": spaces.Discrete(2)})}),
    "sequence": spaces.Sequence(spaces.Discrete(3)),
    "text": spaces.Text(4),
    "dict": spaces.Dict({"speed": spaces.Box(-1, 1, (2,))}),
    "image": spaces.Box(0, 255, (40, 40, 3), np.uint8),
    "vector": spaces.Box(-1, 1, (3,)),
}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("hour from 1", "(key='hour') with a non-zero start (start=1) is not supported by Stable-Baselines3"),
        ("no dimension", "unconventional shape"),
        ("no dimension in a key", "Your observation speed has an unconventional shape"),
        ("from 1", "non-zero start (start=1) is not supported"),
        ("several from 1", "non-zero start (start=[1 1]) is not supported"),
        ("tuple", "you can convert it to a Dict observation space"),
        ("nested", "You should flatten it"),
        ("sequence", "Sequence observation space is not supported"),
        ("text", "must be a numpy array"),
    ],
)
def test_a_space_that_no_algorithm_can_train_on_is_named_in_stable_baselines_own_words(space: str, words: str) -> None:
    [only] = check_environment(spaced(space, policy_for(SPACES[space])))
    assert (only.name, only.ok) == ("Stable-Baselines3's check_env", False)
    assert words in only.detail


@pytest.mark.parametrize(
    ("space", "policy"), [("dict", "MultiInputPolicy"), ("image", "CnnPolicy"), ("vector", "MlpPolicy")]
)
def test_the_policy_follows_from_the_space_and_another_one_is_named_with_it(space: str, policy: str) -> None:
    assert policy_for(SPACES[space]) == policy
    results = list(check_environment(spaced(space, policy)))
    assert all(result.ok for result in results), results
    flat = [r for r in check_environment(spaced(space, "MlpPolicy")) if 'policy = "CnnPolicy"' in r.detail]
    assert [r.ok and "WARNING: " in r.detail for r in flat] == [True] * (space == "image")
    wrong = "MlpPolicy" if space == "dict" else "MultiInputPolicy"
    *_, last = check_environment(spaced(space, wrong))
    assert not last.ok
    assert last.detail.startswith("policy: ")
    assert last.detail.endswith(f"it is {policy}")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"learning_rat": 1e-3}, "hyperparameters.learning_rat: PPO has no hyperparameter learning_rat"),
        ({"policy_kwargs": {"net_arh": [8], "ortho_init": False}}, "hyperparameters.policy_kwargs.net_arh: "),
        ({"policy_kwargs": {"activation_fn": "tanh"}, "n_steps": 8}, "hyperparameters.policy_kwargs.activation_fn: "),
        ({"rollout_buffer_class": "mine"}, "hyperparameters.rollout_buffer_class: "),
        ({"policy_kwargs": {"net_arch": [-1]}}, "hyperparameters.policy_kwargs.net_arch: given [-1]; accepted: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_by_its_key(given: dict[str, Any], key: str) -> None:
    whole = spaced("vector", "MlpPolicy").model_copy(update={"hyperparameters": given})
    *_, last = check_environment(whole)
    assert not last.ok
    assert last.detail.startswith(key)
    with Pool() as made:
        assert check_settings(whole, made).detail.startswith(key)


def test_a_callback_that_cannot_be_made_is_found_before_a_session() -> None:
    whole = spaced("vector", "MlpPolicy").model_copy(update={"callbacks": ["collections:OrderedDict"]})
    *_, last = check_environment(whole)
    assert (last.ok, last.detail.partition(" given")[0]) == (False, "callbacks:")


def test_an_argument_that_the_environment_does_not_take_is_named() -> None:
    wrong = scenario("", "PPO").model_copy(update={"environment_kwargs": {"wronk": "x"}})
    [only] = check_environment(wrong)
    assert only.detail.startswith("environment_kwargs.wronk: TypeError")


def test_what_an_environment_imports_is_no_time_that_making_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session imports it once; an evaluation, which makes it ten times, was taken to import it ten times."""
    asked: list[bool] = []

    def monotonic() -> float:
        asked.append("slow_env" in sys.modules)
        return 0.0

    monkeypatch.setattr(env_check, "time", SimpleNamespace(monotonic=monotonic))
    (tmp_path / "slow_registration.py").write_text("import gymnasium\ngymnasium.register('Slow-v0', 'slow_env:Env')\n")
    (tmp_path / "slow_env.py").write_text("from gymnasium.envs.classic_control import CartPoleEnv as Env\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered = {"environment": "gymnasium:make", "environment_kwargs": {"id": "slow_registration:Slow-v0"}}
    with Pool() as made:
        made.of(scenario("", "PPO").model_copy(update=registered))
    gym.registry.pop("Slow-v0")
    assert asked == [True, True]


def test_an_environment_is_made_once_for_all_checks_and_a_slow_constructor_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(env_check, "SLOW_S", 0.0)
    monkeypatch.setattr(evaluation_share, "MADE_S", 0.0)
    monkeypatch.setattr(preflight, "check_training", lambda *_, **__: [])
    Strange.made.clear()
    kernel, scenarios = Kernel(accelerator="NvidiaTeslaT4"), {"one": scenario("", "PPO")}
    section = Section(
        name="mine", title="mine", trains=True, default_scenario="one", kernel=kernel, scenarios=scenarios
    )
    first, *others = preflight.preflight(Path(), section)
    assert Strange.made == ["made", "closed"]
    assert first.detail.startswith("WARNING: it takes 0.0 s.")
    assert [each for each in others if not each.ok] == []
    assert "one: what the accelerator can gain" in [each.name for each in others]
    assert "not known" not in others[-1].detail


class Mine(PPO):
    """An algorithm of one's own, of which no text says that it learns from rollouts."""


def test_the_trial_training_knows_the_rollout_of_an_algorithm_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int | None] = []

    def trained(*_: Any, rollout: int | None = None, **__: Any) -> list[Any]:
        told.append(rollout)
        return []

    def proven(*_: Any, rollout: int | None = None) -> str:
        told.append(rollout)
        return "exact"

    monkeypatch.setattr(preflight, "check_training", trained)
    monkeypatch.setattr(preflight, "prove_resume", proven)
    mine = scenario("", "PPO").model_copy(update={"algorithm": f"{__name__}:Mine", "n_envs": 2})
    quick = mine.quick.model_copy(update={"hyperparameters": {"n_steps": 64}})
    scenarios = {"one": mine.model_copy(update={"quick": quick})}
    section = Section(name="mine", title="mine", trains=True, default_scenario="one", scenarios=scenarios)
    assert all(each.ok for each in preflight.preflight(Path(), section))
    assert told == [128, 128]


def test_an_error_names_the_last_line_of_the_users_own_code() -> None:
    *_, last = check_environment(scenario("step", "PPO"))
    assert "test_env_check.py, line " in last.detail
    assert "in step)" in last.detail


def spaced(space: str, policy: str) -> ScenarioConfig:
    made = {"environment": f"{__name__}:Spaced", "environment_kwargs": {"space": space}, "policy": policy}
    return scenario("", "PPO").model_copy(update=made)


def scenario(wrong: str, algorithm: str) -> ScenarioConfig:
    return ScenarioConfig.model_validate(
        {
            "environment": f"{__name__}:Strange",
            "environment_kwargs": {"wrong": wrong},
            "algorithm": algorithm,
            "hyperparameters": {"buffer_size": 100} if algorithm != "PPO" else {},
            "timesteps": 10,
            "models": "data/models",
            "quick": {"models": "data/models_quick"},
        }
    )
