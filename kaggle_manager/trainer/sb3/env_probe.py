"""How exact an environment can be put back: tried out at the start of a run, never assumed.

Pickling is tried first: a copy is made, the original goes on, then the copy is given the same actions and must show
the same. An environment may pickle without an error and still lose its state, so only the comparison counts. If it
fails, action replay is put to the same test; if that fails too the run goes on, and says why it cannot be exact.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from kaggle_manager.trainer.sb3 import env_state, random_state
from kaggle_manager.trainer.sb3.state_digest import digest

_STEPS_BEFORE = 5
_STEPS_AFTER = 25
# An environment whose episodes never end is compared this far.
_LONGEST_EPISODE = 1000


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


def probe(factory: env_state.EnvFactory, seed: int) -> Exactness:
    """Try the modes on environments of its own; the random generators are left as they were.

    Raises:
        Exception: whatever making, resetting or stepping the environment raises.
    """
    with random_state.preserved():
        deterministic = _is_deterministic(factory, seed)
        failed_pickle = _failure(factory, "pickle", seed)
        if not failed_pickle:
            return Exactness("pickle", "", deterministic)
        failed_replay = _failure(factory, "action-replay", seed)
        if not failed_replay:
            return Exactness("action-replay", f"pickling does not restore it ({failed_pickle})", deterministic)
        reason = (
            f"pickling does not restore it ({failed_pickle}); replaying its actions does not either ({failed_replay})"
        )
        return Exactness("none", reason, deterministic)


def _failure(factory: env_state.EnvFactory, mode: env_state.Mode, seed: int) -> str:
    """'' when a copy of the environment goes on like the original, else what went wrong."""
    original, copied = env_state.make_env(factory, mode, seed), env_state.make_env(factory, mode, seed)
    try:
        actions = _actions(original, seed)
        original.reset(seed=seed)
        _play(original, actions[:_STEPS_BEFORE])
        try:
            # As in a resume: the environment first, then the process's generators, which it may draw from.
            state, generators = original.exact_state(), random_state.collect()
            expected = _play(original, actions[_STEPS_BEFORE:])
            if problem := copied.restore_exact_state(state):
                return problem
            random_state.restore(generators)
            found = _play(copied, actions[_STEPS_BEFORE:])
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for step, (wanted, got) in enumerate(zip(expected, found, strict=True), start=1):
            if wanted != got:
                return f"the copy differs {step} steps after it was made"
        return ""
    finally:
        env_state.close_one(original)
        env_state.close_one(copied)


def _is_deterministic(factory: env_state.EnvFactory, seed: int) -> bool:
    first, second = factory(), factory()
    try:
        space = copy.deepcopy(first.action_space)
        space.seed(seed)
        if digest(first.reset(seed=seed)[0]) != digest(second.reset(seed=seed + 1)[0]):
            return False
        for _ in range(_LONGEST_EPISODE):
            action = space.sample()
            outcome, other = first.step(action), second.step(action)
            if digest(outcome[:4]) != digest(other[:4]):
                return False
            if outcome[2] or outcome[3]:
                return True
        return True
    finally:
        env_state.close_one(first)
        env_state.close_one(second)


def _actions(env: gym.Env[Any, Any], seed: int) -> list[Any]:
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    return [space.sample() for _ in range(_STEPS_BEFORE + _STEPS_AFTER)]


def _play(env: gym.Env[Any, Any], actions: list[Any]) -> list[str]:
    """Digest of what each step showed; episodes that end are begun again, and one more is begun at the end."""
    shown = []
    for number, action in enumerate(actions, start=1):
        observation, reward, terminated, truncated, _ = env.step(action)
        over = terminated or truncated or number == len(actions)
        again = env.reset()[0] if over else None
        shown.append(digest([observation, float(reward), bool(terminated), bool(truncated), again]))
    return shown
