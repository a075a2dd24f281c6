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


def seen(evaluation_s: float, every: int = 1000, *, rollout: int = 4, total: int = 100_000) -> EvaluationShare:
    return EvaluationShare(step_s=1e-3, evaluation_s=evaluation_s, asked=every, rollout=rollout, total=total)


@pytest.mark.parametrize(("evaluation_s", "enough"), [(0.001, 1000), (0.06, 2000), (0.23, 5000), (0.5, 10_000)])
def test_what_is_advised_keeps_it_below_a_tenth(evaluation_s: float, enough: int) -> None:
    assert seen(evaluation_s).advised == enough
    assert seen(evaluation_s, enough).share < 0.1


@pytest.mark.parametrize("rollout", [4, 2048, 16_384])
@pytest.mark.parametrize("evaluation_s", [0.001, 0.1, 0.7, 3.0])
def test_what_init_writes_is_not_warned_of_by_a_preflight_that_measures_twice_as_much(
    evaluation_s: float, rollout: int
) -> None:
    written = seen(evaluation_s, rollout=rollout, total=1_000_000).advised
    assert written is not None
    assert written % max(rollout, 1000) == 0, "they come at the ends of rollouts"
    again = seen(2 * evaluation_s, written, rollout=rollout, total=1_000_000)
    assert not again.is_too_much


def test_an_evaluation_comes_at_the_end_of_a_rollout_however_often_it_is_asked_for() -> None:
    rare = seen(1.0, 1000, rollout=16_384)
    assert rare.every == 16_384
    assert not rare.is_too_much
    ppo = measure(scenario(algorithm="PPO", n_envs=2, evaluation={"every": 1000, "episodes": 1}))
    assert ppo is not None
    assert ppo.every == 2 * 2048


def test_what_leaves_too_few_evaluations_is_neither_written_nor_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seen(3.0, total=20_000)
    assert found.share > 0.1
    assert (found.advised, found.is_too_much) == (None, False)
    monkeypatch.setattr(evaluation_share, "measure", lambda *_: found)
    told = preflight.check_evaluations(scenario())
    assert told.line == ""
    assert "WARNING" not in told.detail
    assert "fewer `episodes`" in told.detail


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


class Short(Endless):
    """Its episodes are over at once."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, True, False, {}


def test_an_episode_that_was_not_over_and_has_no_time_limit_is_taken_for_thousands_of_steps() -> None:
    """As one of Atari: what a moment of it takes advised an evaluation every 1,000 timesteps."""

    def played(environment: type) -> EvaluationShare:
        found = measure(scenario(environment=f"{__name__}:{environment.__name__}", environment_kwargs={}))
        assert found is not None
        return found

    endless, short = played(Endless), played(Short)
    assert endless.asked == 4 * 10 * evaluation_share.OPEN_EPISODE
    assert endless.why == "if an episode takes 3,000 steps, for the environment declares no episode limit"
    assert short.why == "at least, because the environment declares no episode limit"
    assert short.asked == 1000
    assert "each takes at most " in preflight.check_evaluations(scenario()).detail


def test_the_preflight_says_when_it_is_too_much_and_which_line_makes_it_less() -> None:
    Sleepy.made = 0
    changes = {"timesteps": 10**9, "evaluation": {"every": 100}}
    found = preflight.check_evaluations(scenario(environment=f"{__name__}:Sleepy", environment_kwargs={}, **changes))
    assert found.ok
    assert found.detail.startswith("WARNING: ")
    assert f"`{found.line}` under `evaluation` in section.toml makes it less than a tenth" in found.detail
    assert found.line.startswith("every = ")


def test_what_cannot_be_measured_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_share, "measure_share", lambda *_, **__: None)
    found = preflight.check_evaluations(scenario())
    assert (found.ok, found.detail, found.line) == (True, "not known: no update came within seconds", "")
