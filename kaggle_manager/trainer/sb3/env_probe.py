"""How exact an environment can be put back: tried out at the start of a run, never assumed.

Pickling is tried first: a copy is made, the original continues, then the copy is given the same actions and must show
the same. An environment may pickle without an error and still lose its state, so only the comparison counts. If it
fails, action replay is put to the same test; if that fails too the run continues, and says why it cannot be exact.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from kaggle_manager.trainer.sb3 import env_state, random_state
from kaggle_manager.trainer.sb3.acting import masks, random_action
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.state_digest import digest

_STEPS_BEFORE = 5
_STEPS_AFTER = 25
# An environment whose episodes never end is compared this far.
_LONGEST_EPISODE = 1000
# So many short ones are compared, or fewer once they have so many steps together.
_EPISODES, _ENOUGH_STEPS = 20, 200


@dataclass(frozen=True)
class Exactness:
    """What the probe found.

    Attributes:
        mode: `pickle`, `action-replay`, or `none`.
        reason: why it is not the simpler one; '' for `pickle`.
        deterministic: two differently seeded episodes with the same actions were the same from reset to end.
    """

    mode: env_state.Mode
    reason: str
    deterministic: bool


def probe(environments: Environments, seed: int) -> Exactness:
    """Try the modes on environments of its own; the random generators are left as they were.

    Raises:
        Exception: whatever making, resetting or stepping the environment raises.
    """
    # Episodes are left here before they end.
    environments = replace(environments, monitor={**environments.monitor, "allow_early_resets": True})
    with random_state.preserved():
        # Two serve both: a constructor may load data or start a simulator.
        with _two(environments, "pickle", seed) as (first, second):
            deterministic = _is_deterministic(first, second, seed)
            failed_pickle = _failure(first, second, seed)
        if not failed_pickle:
            return Exactness("pickle", "", deterministic)
        with _two(environments, "action-replay", seed) as (first, second):
            failed_replay = _failure(first, second, seed)
        if not failed_replay:
            return Exactness("action-replay", f"pickling does not restore it ({failed_pickle})", deterministic)
        reason = (
            f"pickling does not restore it ({failed_pickle}); replaying its actions does not either ({failed_replay})"
        )
        return Exactness("none", reason, deterministic)


@contextmanager
def _two(environments: Environments, mode: env_state.Mode, seed: int) -> Iterator[list[env_state.StatefulEnv]]:
    made: list[env_state.StatefulEnv] = []
    try:
        made.append(environments.one(mode, seed))
        made.append(environments.one(mode, seed + 1))  # whose spaces have generators of their own
        yield made
    finally:
        for env in made:
            env_state.close_one(env)


def _failure(original: env_state.StatefulEnv, copied: env_state.StatefulEnv, seed: int) -> str:
    """'' when a copy of the environment continues like the original, else what went wrong."""
    original.reset(seed=seed)
    space = copy.deepcopy(original.action_space)
    space.seed(seed)
    for _ in range(_STEPS_BEFORE):
        _step(original, random_action(original, space))
    try:
        # As in a resume: the environment first, then the process's generators, which it may draw from.
        state, generators = original.exact_state(), random_state.collect()
        actions, expected = [], []
        for _ in range(_STEPS_AFTER):
            actions.append(random_action(original, space))
            expected.append(_step(original, actions[-1]))
        expected.append(digest(original.reset()[0]))
        if problem := copied.restore_exact_state(state):
            return problem
        random_state.restore(generators)
        found = [*(_step(copied, action) for action in actions), digest(copied.reset()[0])]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for step, (wanted, got) in enumerate(zip(expected, found, strict=True), start=1):
        if wanted != got:
            return f"the copy differs {step} steps after it was made"
    return ""


def _is_deterministic(first: gym.Env[Any, Any], second: gym.Env[Any, Any], seed: int) -> bool:
    """Whether differently seeded episodes with the same actions are the same: several, where they are short.

    Chance that is seldom seen makes one short episode like another.
    """
    space = copy.deepcopy(first.action_space)
    space.seed(seed)
    steps = 0
    for episode in range(_EPISODES):
        if digest(first.reset(seed=seed + 2 * episode)[0]) != digest(second.reset(seed=seed + 2 * episode + 1)[0]):
            return False
        over = False
        while not over and steps < _LONGEST_EPISODE:
            if digest(masks(first)) != digest(masks(second)):
                return False
            action = random_action(first, space)
            outcome, other = first.step(action), second.step(action)
            if digest(outcome[:4]) != digest(other[:4]):
                return False
            over, steps = outcome[2] or outcome[3], steps + 1
        if steps >= _ENOUGH_STEPS:
            break
    return True


def _step(env: gym.Env[Any, Any], action: Any) -> str:
    """Digest of what a step showed; an episode that ends is begun again."""
    observation, reward, terminated, truncated, _ = env.step(action)
    again = env.reset()[0] if terminated or truncated else None
    return digest([observation, float(reward), bool(terminated), bool(truncated), again, masks(env)])
