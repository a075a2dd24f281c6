"""A simulator that cannot be pickled is put back exactly by its own actions, or said to have diverged."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kaggle_manager.errors import SimulationDiverged
from kaggle_manager.trainer.sb3.action_replay import ActionReplay, episode_seed, wrap_simulator


class Walk(gym.Env[Any, Any]):
    """A random walk whose state is in an object that refuses to be pickled; `drift` makes it differ from run to run."""

    drift = 0.0
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.place = 0.0
        self.starts = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.starts += 1
        self.place = float((options or {}).get("start", 0.0)) + Walk.drift
        return np.array([self.place]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += float(action) - 0.5 + self.np_random.normal()
        return np.array([self.place]), self.place, False, False, {}

    def __reduce__(self) -> Any:
        raise TypeError("native code")


class HiddenState(Walk):
    """Shows nothing in its observation, all in its digest."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        super().step(action)
        return np.zeros(1), 0.0, False, False, {"digest": f"{self.place + Walk.drift:.17g}"}


@dataclass(frozen=True)
class Wrapped:
    """Walk under gymnasium's own wrappers."""

    def __call__(self) -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(gym.wrappers.OrderEnforcing(Walk()), 50)


def play(env: gym.Env[Any, Any], steps: int) -> list[float]:
    return [float(env.step(np.int64(number % 2))[0][0]) for number in range(steps)]


@pytest.mark.parametrize("episodes", [0, 1, 3])
@pytest.mark.parametrize("steps", [0, 1, 17])
def test_a_copy_goes_on_like_the_original_at_any_step_and_into_the_next_episodes(episodes: int, steps: int) -> None:
    env = ActionReplay(Walk, base_seed=5)
    env.reset(seed=9)
    for _ in range(episodes):
        play(env, 3)
        env.reset(options={"start": 4.0})
    play(env, steps)
    saved = pickle.dumps(env)
    expected = [play(env, 10), float(env.reset()[0][0]), play(env, 5)]
    copy = pickle.loads(saved)
    assert [play(copy, 10), float(copy.reset()[0][0]), play(copy, 5)] == expected


def test_episodes_differ_and_follow_from_the_seed_alone() -> None:
    first, second = ActionReplay(Walk, 5), ActionReplay(Walk, 6)
    runs = []
    for env in (first, second):
        env.reset(seed=9)
        run = [play(env, 3)]
        env.reset()
        runs.append([*run, play(env, 3)])
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][1]
    assert episode_seed(9, 0) != episode_seed(9, 1)
    assert 0 <= episode_seed(2**31 - 1, 10**6) < 2**31


def test_a_simulator_that_is_not_the_same_again_is_named_with_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ActionReplay(Walk, 5)
    env.reset(seed=9)
    play(env, 4)
    saved = pickle.dumps(env)
    monkeypatch.setattr(Walk, "drift", 1e-12)
    with pytest.raises(SimulationDiverged, match=r"Walk did not do the same again.*step 0 of 4"):
        pickle.loads(saved)


def test_a_difference_only_the_simulators_digest_shows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ActionReplay(HiddenState, 5)
    env.reset(seed=9, options={"start": 2.0})
    play(env, 2)
    saved = pickle.dumps(env)
    pickle.loads(saved)
    monkeypatch.setattr(HiddenState, "reset", lambda self, **_: (Walk.reset(self, seed=1)[0] * 0 + 2.0, {}))
    with pytest.raises(SimulationDiverged, match="step 1 of 2"):
        pickle.loads(saved)


def test_it_stands_directly_around_the_simulator_and_the_wrappers_above_keep_their_own_state() -> None:
    env = wrap_simulator(Wrapped(), 5)
    assert isinstance(env, gym.wrappers.TimeLimit)
    assert isinstance(env.unwrapped, Walk)
    env.reset(seed=9)
    play(env, 48)
    copy = pickle.loads(pickle.dumps(env))
    assert not copy.step(0)[3]
    assert copy.step(0)[3], "the time limit must have counted the 48 steps before"
    assert isinstance(copy.env.env, ActionReplay)


def test_what_is_saved_of_an_episode_is_small() -> None:
    env = ActionReplay(Walk, 5)
    env.reset(seed=9)
    play(env, 1000)
    assert len(pickle.dumps(env)) < 1000 * 16 + 600
