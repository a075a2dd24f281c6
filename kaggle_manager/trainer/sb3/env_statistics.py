"""Running statistics that an environment keeps of its own, such as those of gymnasium's NormalizeObservation.

Another environment, one of an evaluation, begins with fresh ones: the policy sees other observations there than in its
training, and a reward that is divided by them says nothing. The section's `normalize` has none of that.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym

from kaggle_manager.trainer.sb3.acting import random_action
from kaggle_manager.trainer.sb3.state_digest import digest

_OF_REWARDS = re.compile(r"rew|ret")
_STEPS = 30


def layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """An environment with all that is around it, outermost first."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def statistics_in(env: gym.Env[Any, Any]) -> dict[str, list[str]]:
    """Names of the running statistics by the layer that keeps them, outermost first."""
    found = {}
    for layer in layers(env):
        names = [name for name, value in vars(layer).items() if _is_statistic(value)]
        if names:
            found[type(layer).__name__] = names
    return found


def below_normalised_rewards(env: gym.Env[Any, Any]) -> gym.Wrapper[Any, Any, Any, Any] | None:
    """The lowest wrapper that divides rewards by statistics; None where none does."""
    lowest = None
    for layer in layers(env):
        is_wrapper = isinstance(layer, gym.Wrapper)
        if is_wrapper and any(_OF_REWARDS.search(name) and _is_statistic(it) for name, it in vars(layer).items()):
            lowest = layer
    return lowest  # type: ignore[return-value]


def in_words(found: dict[str, list[str]]) -> str:
    """What to say of `statistics_in`; '' for nothing."""
    if not found:
        return ""
    kept = ", ".join(f"{layer} ({', '.join(names)})" for layer, names in found.items())
    return (
        f"the environment keeps running statistics of its own: {kept}. {BIASED}; take them out of the environment and "
        "add normalize = { norm_obs = true, norm_reward = true } to the scenario in section.toml"
    )


BIASED = (
    "An evaluation begins with a new environment, so that its score, and with it the best model, is not what the "
    "policy reaches in its training"
)


def depends_on_the_past(used: gym.Env[Any, Any], make: Callable[[], gym.Env[Any, Any]], seed: int) -> bool:
    """Whether the same episode, by seed and actions, is another one after others, though new environments agree on it.

    Args:
        used: an environment, which is played.
        make: makes one that is new.
    """
    first = _shown(used, seed)
    _shown(used, seed + 1)
    if _shown(used, seed) == first:
        return False
    new = [make(), make()]
    try:
        one, other = (_shown(env, seed) for env in new)
        return one == other
    finally:
        for env in new:
            env.close()


def _shown(env: gym.Env[Any, Any], seed: int) -> str:
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    shown = [env.reset(seed=seed)[0]]
    for _ in range(_STEPS):
        step = env.step(random_action(env, space))
        shown += step[:4]
        if step[2] or step[3]:
            break
    return digest(shown)


def _is_statistic(value: Any) -> bool:
    """A mean and a variance over a number of values, of whichever class."""
    return all(hasattr(value, name) for name in ("mean", "var", "count")) and not hasattr(value, "dtype")
