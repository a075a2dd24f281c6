"""Exact save and restore for simulators that cannot be pickled: run them again from the seed and the actions.

`ActionReplay` stands directly around the simulator, below every other wrapper. Each episode gets a seed derived from
the base seed and its number, the actions are logged, and pickling stores (factory, seed, actions, hashes of what was
observed). Unpickling simulates the open episode again and compares every hash: a simulator that is not deterministic
given its seed is named as such, never continued as if it were the same. A restore costs at most one episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from kaggle_manager.errors import SimulationDiverged

_HASH_BYTES = 8


@dataclass(frozen=True)
class EpisodeLog:
    """What an open episode can be simulated from.

    Attributes:
        base_seed: seed all episodes derive theirs from.
        episode: number of the open episode, from 0; -1 before the first reset.
        options: what `reset` was given.
        actions: one entry a step; one array with a leading axis of steps where the actions allow it.
        hashes: 8 bytes for the reset and for each step, over all that was shown, and over `info["digest"]` where the
            simulator offers a digest of its inner state.
    """

    base_seed: int
    episode: int
    options: dict[str, Any] | None
    actions: Any
    hashes: bytes


class ActionReplay(gym.Wrapper[Any, Any, Any, Any]):
    """Logs an episode so that it can be simulated again.

    Args:
        factory: makes the environment; picklable. The simulator is its `unwrapped`.
        base_seed: seed the episodes derive theirs from until `reset(seed=...)` gives another.
        simulator: the simulator to wrap, when it exists already.
    """

    def __init__(
        self, factory: Callable[[], gym.Env[Any, Any]], base_seed: int, simulator: gym.Env[Any, Any] | None = None
    ):
        super().__init__(factory().unwrapped if simulator is None else simulator)
        self._factory = factory
        self._base_seed = base_seed
        self._episode = -1
        self._options: dict[str, Any] | None = None
        self._actions: list[Any] = []
        self._hashes = bytearray()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._base_seed, self._episode = seed, 0
        else:
            self._episode += 1
        return self._begin(options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        self._actions.append(np.copy(action) if isinstance(action, np.ndarray) else action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._hashes += _hash(observation, info, float(reward), bool(terminated), bool(truncated))
        return observation, reward, terminated, truncated, info

    def __reduce__(self) -> tuple[Any, ...]:
        log = EpisodeLog(
            base_seed=self._base_seed,
            episode=self._episode,
            options=self._options,
            actions=_compact(self._actions),
            hashes=bytes(self._hashes),
        )
        return simulate_again, (self._factory, log)

    def _begin(self, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        self._options = options
        self._actions = []
        observation, info = self.env.reset(seed=episode_seed(self._base_seed, self._episode), options=options)
        self._hashes = bytearray(_hash(observation, info))
        return observation, info

    def _replay(self, log: EpisodeLog) -> None:
        self._episode = log.episode
        if log.episode < 0:
            return
        self._begin(log.options)
        self._compare(log, step=0)
        for number, action in enumerate(log.actions, start=1):
            self.step(action)
            self._compare(log, number)

    def _compare(self, log: EpisodeLog, step: int) -> None:
        span = slice(step * _HASH_BYTES, (step + 1) * _HASH_BYTES)
        if self._hashes[span] != log.hashes[span]:
            raise SimulationDiverged(
                f"{type(self.env).__name__} did not do the same again: what it showed differs at step {step} of "
                f"{len(log.actions)} (episode {log.episode}, seed {episode_seed(log.base_seed, log.episode)}).",
                safe="the checkpoint is intact; only the open episode cannot be continued.",
            )


def simulate_again(factory: Callable[[], gym.Env[Any, Any]], log: EpisodeLog) -> ActionReplay:
    """Make the simulator and bring it to where `log` ends.

    Raises:
        SimulationDiverged: the simulator did not show the same again.
    """
    replayed = ActionReplay(factory, log.base_seed)
    try:
        replayed._replay(log)
    except BaseException:
        replayed.close()
        raise
    return replayed


def wrap_simulator(factory: Callable[[], gym.Env[Any, Any]], base_seed: int) -> gym.Env[Any, Any]:
    """The environment `factory` makes, with `ActionReplay` put directly around its simulator."""
    outermost = factory()
    replay = ActionReplay(factory, base_seed, outermost.unwrapped)
    if outermost is outermost.unwrapped:
        return replay
    lowest = outermost
    while isinstance(lowest, gym.Wrapper) and isinstance(lowest.env, gym.Wrapper):
        lowest = lowest.env
    assert isinstance(lowest, gym.Wrapper)
    lowest.env = replay
    return outermost


def episode_seed(base_seed: int, episode: int) -> int:
    """Seed of one episode: 31 bits, which every simulator accepts."""
    return int(np.random.SeedSequence([base_seed, episode]).generate_state(1)[0]) >> 1


def _compact(actions: list[Any]) -> Any:
    """One array when all actions have the same type and shape, because it pickles in a fraction of the time."""
    kinds = {(type(action), getattr(action, "dtype", None), np.shape(action)) for action in actions}
    if len(kinds) == 1 and isinstance(actions[0], np.ndarray | np.generic):
        return np.stack(actions)
    return list(actions)


def _hash(observation: Any, info: dict[str, Any], *outcome: float | bool) -> bytes:
    digest = hashlib.blake2b(repr((outcome, info.get("digest"))).encode(), digest_size=_HASH_BYTES)
    _feed(digest, observation)
    return digest.digest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, tuple):
        for item in value:
            _feed(digest, item)
    else:
        digest.update(np.ascontiguousarray(value).tobytes())
