"""What evaluations take is measured before a training, as if their episodes were as long as they can become."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import evaluation_share, network_share, preflight
from kaggle_manager.trainer.sb3.evaluation_share import EvaluationShare, measure


def scenario(**changes: Any) -> ScenarioConfig:
    values: dict[str, Any] = {
        "environment": "gymnasium:make",
        "environment_kwargs": {"id": "CartPole-v1"},
        "algorithm": "DQN",
        "timesteps": 100_000,
        "models": "data/models",
        "quick": {"models": "data/models_quick"},
        **changes,
    }
    return ScenarioConfig.model_validate(values)


@pytest.fixture(autouse=True)
def a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_share, "MEASURE_S", 0.05)


@pytest.mark.parametrize(("evaluation_s", "enough"), [(0.001, 1000), (0.112, 2000), (0.23, 5000), (1.1, 10_000)])
def test_what_is_advised_keeps_it_below_a_tenth(evaluation_s: float, enough: int) -> None:
    seen = EvaluationShare(step_s=1e-3, evaluation_s=evaluation_s, every=1000)
    assert seen.enough == enough
    assert EvaluationShare(1e-3, evaluation_s, enough).share < 0.1
    assert (seen.share < 0.1) == (enough == 1000)


def test_an_evaluation_is_as_long_as_it_can_become_and_comes_as_often_as_the_trainer_has_it() -> None:
    found = measure(scenario())
    assert found is not None
    assert found.every == 20_000, (
        "ten episodes of 500 steps, though its policy falls after ten, are a fifth of all then"
    )
    stated = measure(scenario(evaluation={"every": 300, "episodes": 1}))
    assert stated is not None
    assert stated.every == 300


def test_an_evaluation_is_measured_in_the_environment_that_it_is_played_in() -> None:
    """`eval_env_kwargs` may change how long an episode can become, and what a step takes."""
    trained = {"environment_kwargs": {"id": "CartPole-v1", "max_episode_steps": 20}}
    evaluation = {"every": 300, "episodes": 1}
    short = measure(scenario(**trained, evaluation=evaluation))
    long = measure(scenario(**trained, evaluation=evaluation, eval_env_kwargs={"max_episode_steps": 200_000}))
    assert short is not None
    assert long is not None
    assert long.evaluation_s > 100 * short.evaluation_s
    with pytest.raises(TypeError, match="nope"):
        measure(scenario(evaluation=evaluation, eval_env_kwargs={"nope": 3}))


class Sleepy(gym.Wrapper[Any, Any, Any, Any]):
    """Takes its time where it is not trained in."""

    made = 0

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        Sleepy.made += 1
        self._sleeps = Sleepy.made > 2

    def step(self, action: Any) -> Any:
        time.sleep(0.003 if self._sleeps else 0.0)
        return super().step(action)


class Heavy(gym.Wrapper[Any, Any, Any, Any]):
    """One step takes longer than all that is to be measured."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))

    def step(self, action: Any) -> Any:
        time.sleep(0.06)
        return super().step(action)


def test_a_step_that_takes_longer_than_the_measurement_is_not_taken_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_share, "measure_share", lambda *_, **__: SimpleNamespace(step_s=0.06))
    found = measure(scenario(environment=f"{__name__}:Heavy", environment_kwargs={}, evaluation={"episodes": 1}))
    assert found is not None
    assert found.evaluation_s >= 500 * 0.06


class Endless(gym.Env[Any, Any]):
    """As those of Atari, its episodes have no time limit, and are not over within what is measured."""

    observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def test_without_a_time_limit_what_was_measured_is_called_the_least_an_evaluation_takes() -> None:
    endless = preflight.check_evaluations(scenario(environment=f"{__name__}:Endless", environment_kwargs={}))
    assert "s each at least, for its episodes have no time limit, beside" in endless.detail
    assert "s each at most, beside" in preflight.check_evaluations(scenario()).detail


def test_the_preflight_says_when_it_is_too_much_and_which_line_makes_it_less() -> None:
    Sleepy.made = 0
    found = preflight.check_evaluations(scenario(environment=f"{__name__}:Sleepy", environment_kwargs={}, timesteps=300,
                                                 evaluation={"every": 100}))  # fmt: skip
    assert found.ok
    assert found.detail.startswith("WARNING: ")
    assert f"`{found.line}` under `evaluation` in section.toml makes it less than a tenth" in found.detail
    assert found.line.startswith("every = ")


def test_what_cannot_be_measured_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_share, "measure_share", lambda *_, **__: None)
    found = preflight.check_evaluations(scenario())
    assert (found.ok, found.detail, found.line) == (True, "not known: no update came within seconds", "")
