"""What a GPU can gain at most is known before the first session, from what the network is of a timestep."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from kaggle_manager.sections.model import Kernel, ScenarioConfig, Section
from kaggle_manager.trainer.sb3 import network_share, preflight
from kaggle_manager.trainer.sb3.network_share import LAUNCH_S, NetworkShare, measure_share


class Clock:
    """Goes on by a little at each look."""

    now = 0.0

    @classmethod
    def perf_counter(cls) -> float:
        cls.now += 1e-4
        return cls.now


class SlowPole(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A simulator: it takes its time."""

    def step(self, action: Any) -> Any:
        Clock.now += 0.02
        return super().step(action)


def slow_pole() -> gymnasium.Env[Any, Any]:
    return SlowPole(gymnasium.make("CartPole-v1"))


def silent_pole() -> gymnasium.Env[Any, Any]:
    raise ValueError("no pole today")


def scenario(algorithm: str = "A2C", environment: str = "gymnasium:make", **options: Any) -> ScenarioConfig:
    kwargs = {} if ":make" not in environment else {"environment_kwargs": {"id": "CartPole-v1"}}
    given = {"environment": environment, "algorithm": algorithm, "timesteps": 1000, **kwargs, **options}
    return ScenarioConfig(**given, models="models", quick={"models": "quick"})  # type: ignore[arg-type]


def section(accelerator: str | None, **options: Any) -> Section:
    return Section(
        name="s",
        title="S",
        trains=False,
        kernel=Kernel(accelerator=accelerator),
        scenarios={"one": scenario(**options)},
    )


@pytest.fixture(autouse=True)
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_share, "MEASURE_S", 0.05)


def test_the_rest_of_a_timestep_and_the_launches_stay() -> None:
    assert NetworkShare(step_s=1.0, network_s=0.5, operations=0).gain_at_most == 2
    assert NetworkShare(step_s=1.0, network_s=0.5, operations=0.25 / LAUNCH_S).gain_at_most == pytest.approx(4 / 3)
    assert NetworkShare(step_s=1.0, network_s=0.5, operations=9 / LAUNCH_S).gain_at_most == 1, "it need not be used"


@pytest.mark.parametrize("algorithm", ["DQN", "PPO", "A2C"])
def test_every_discrete_algorithm_measures_itself(algorithm: str) -> None:
    seen = measure_share(scenario(algorithm))
    assert seen is not None
    assert 0 < seen.network_s < seen.step_s
    assert seen.operations > 1
    again = measure_share(scenario(algorithm))
    assert again is not None
    assert again.operations == pytest.approx(seen.operations, rel=0.5), "it is a property of the network"


@pytest.mark.parametrize("algorithm", ["SAC", "TD3"])
def test_every_continuous_algorithm_measures_itself(algorithm: str) -> None:
    seen = measure_share(scenario(algorithm, environment_kwargs={"id": "Pendulum-v1"}))
    assert seen is not None
    assert 0 < seen.network_s < seen.step_s


def test_what_learns_from_whole_episodes_measures_itself_once_one_is_over() -> None:
    seen = measure_share(
        scenario(
            "DQN",
            "stable_baselines3.common.envs:BitFlippingEnv",
            policy="MultiInputPolicy",
            environment_kwargs={"n_bits": 6, "max_steps": 6},
            hyperparameters={"replay_buffer_class": "stable_baselines3:HerReplayBuffer", "learning_starts": 20},
        )
    )
    assert seen is not None
    assert 0 < seen.network_s < seen.step_s


def test_a_simulator_that_takes_the_time_is_said_to_gain_nothing_before_a_session_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_share, "time", Clock)
    environment = f"{__name__}:slow_pole"
    [said] = preflight.check_accelerator(section("NvidiaTeslaT4", environment=environment), "one")
    assert said.ok
    assert said.detail.startswith("WARNING: 1")
    assert "of this CPU at most" in said.detail
    assert "without `accelerator` in section.toml it costs none of the weekly quota" in said.detail
    assert preflight.check_accelerator(section(None, environment=environment), "one") == [], "none was asked for"


def test_a_network_that_takes_the_time_is_left_its_accelerator() -> None:
    hyperparameters = {"batch_size": 2048, "policy_kwargs": {"net_arch": [512, 512]}}
    [said] = preflight.check_accelerator(
        section("NvidiaTeslaT4", algorithm="DQN", hyperparameters=hyperparameters), "one"
    )
    assert "times the speed of this CPU at most" in said.detail
    assert "WARNING" not in said.detail


def test_what_cannot_be_measured_is_not_a_failure() -> None:
    [said] = preflight.check_accelerator(section("NvidiaTeslaT4", environment=f"{__name__}:silent_pole"), "one")
    assert said.ok
    assert said.detail.startswith("not known: ValueError: no pole today")
