"""How exact an environment can be put back is tried out, not assumed."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kaggle_manager.trainer.sb3 import random_state
from kaggle_manager.trainer.sb3.env_probe import probe
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.selftest_cases import Simulator
from kaggle_manager.trainer.sb3.state_digest import digest


class Noisy(gym.Env[Any, Any]):
    """A noisy counter; its subclasses break one promise each."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def __init__(self) -> None:
        self.level = 0.0

    def noise(self) -> float:
        return float(self.np_random.normal())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.level = self.noise()
        return np.array([self.level]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.level += float(action) + self.noise()
        return np.array([self.level]), 1.0, False, False, {}


class Forgetful(Noisy):
    """Pickles without an error and without its state."""

    def __getstate__(self) -> dict[str, Any]:
        return {"level": 0.0}


class Lawless(Noisy):
    """Draws from a generator no seed reaches."""

    def noise(self) -> float:
        return random.SystemRandom().gauss(0.0, 1.0)


class Careless(Noisy):
    """Draws from the generators of its process."""

    def noise(self) -> float:
        return random.gauss(0.0, 1.0) + float(np.random.normal())


class Clockwork(Noisy):
    """The same whatever the seed."""

    def noise(self) -> float:
        return 0.25


class ShortAndSeldomBlown(Clockwork):
    """Episodes of two steps, and chance in one of ten."""

    def noise(self) -> float:
        return float(self.np_random.integers(20) == 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, *_ = super().step(action)
        self._steps = (getattr(self, "_steps", 0) + 1) % 2
        return observation, 1.0, self._steps == 0, False, {}


class LateNoise(Clockwork):
    """The same whatever the seed, until an episode is old."""

    def noise(self) -> float:
        return 0.25 if self.level < 200 else float(self.np_random.normal())


@pytest.mark.parametrize(
    ("factory", "mode", "deterministic"),
    [
        (EntryPoint("gymnasium:make", {"id": "CartPole-v1"}), "pickle", False),
        (Noisy, "pickle", False),
        (Clockwork, "pickle", True),
        (LateNoise, "pickle", False),
        (ShortAndSeldomBlown, "pickle", False),
        (Simulator, "action-replay", False),
        (Careless, "pickle", False),
        (Forgetful, "action-replay", False),
        (Lawless, "none", False),
    ],
)
def test_each_kind_is_found_out(factory: Any, mode: str, deterministic: bool) -> None:
    found = probe(Environments(factory), seed=3)
    assert (found.mode, found.deterministic) == (mode, deterministic)
    assert bool(found.reason) == (mode != "pickle")


def test_no_more_environments_are_made_than_are_compared() -> None:
    made: list[None] = []

    def factory() -> Noisy:
        made.append(None)
        return Noisy()

    assert probe(Environments(factory), seed=3).mode == "pickle"
    assert len(made) == 2


def test_the_reason_says_what_failed() -> None:
    assert "a simulator cannot be pickled" in probe(Environments(Simulator), 3).reason
    assert "did not do the same again" in probe(Environments(Lawless), 3).reason


def test_probing_leaves_the_random_generators_alone() -> None:
    before = digest(random_state.collect())
    probe(Environments(Simulator), 3)
    assert digest(random_state.collect()) == before
