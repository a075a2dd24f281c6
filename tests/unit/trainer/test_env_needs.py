"""`init` gives an environment whose observations no algorithm takes the wrapper that makes them ones that it does."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from kaggle_manager.trainer.sb3.env_needs import look, wrapper_for

IMAGE, DIRECTION = gym.spaces.Box(0, 255, (7, 7, 3), "uint8"), gym.spaces.Discrete(4)
MISSION = gym.spaces.Text(20)


class Shown(gym.Env[Any, Any]):
    """Shows what it is told to."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


class Grid(Shown):
    """As those of MiniGrid."""

    def __init__(self) -> None:
        super().__init__(gym.spaces.Dict(image=IMAGE, direction=DIRECTION, mission=MISSION))


class Flat(gym.ObservationWrapper[Any, Any, Any]):
    """As minigrid.wrappers:FlatObsWrapper."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 1, (5,))

    def observation(self, observation: Any) -> Any:
        return self.observation_space.sample()


@pytest.mark.parametrize("space", [IMAGE, gym.spaces.Dict(image=IMAGE, direction=DIRECTION)])
def test_observations_that_can_be_learned_from_stay_as_they_are(space: gym.Space[Any]) -> None:
    assert wrapper_for(Shown(space), f"{__name__}:Flat") is None


def test_of_a_dictionary_the_parts_stay_that_can_be_learned_from_where_no_wrapper_is_usual() -> None:
    kept = {"gymnasium.wrappers:FilterObservation": {"filter_keys": ["direction", "image"]}}
    assert wrapper_for(Grid()) == kept
    assert wrapper_for(Grid(), "no_such_package.wrappers:Flat") == kept
    nested = gym.spaces.Dict(inner=gym.spaces.Dict(at=DIRECTION))
    assert wrapper_for(Shown(nested)) == "gymnasium.wrappers:FlattenObservation"


def test_the_wrapper_that_is_usual_comes_first_and_the_policy_is_for_what_it_shows() -> None:
    usual = f"{__name__}:Flat"
    seen = look(f"{__name__}:Grid", {}, usual=usual)
    assert (seen["problem"], seen["wrapper"], seen["policy"]) == ("", usual, "MlpPolicy")
    given = look(f"{__name__}:Grid", {}, ["gymnasium.wrappers:FlattenObservation"], usual=usual)
    assert given["wrapper"] is None, "what the section says already stays"
