"""Seeded episodes played as one batch: environments side by side, each of which plays one and then stands still.

An episode's result depends on its seed and the policy alone, not on how many are played beside it or which of them ends
first; environments that draw from the generators of the process are played in an order that is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

Acts = Callable[[Any, Any, np.ndarray[Any, Any], Sequence[int]], tuple[np.ndarray[Any, Any], Any]]
"""Actions and hidden states of a policy, given observations, hidden states (None at first), where episodes begin, and
which environments these are of."""


@dataclass(frozen=True)
class Episode:
    """Return and length, in steps of the environment below its monitor."""

    reward: float
    steps: int


class Episodes(DummyVecEnv):
    """One episode of each environment. The monitor inside says when it is over: an environment may end earlier, as
    those of Atari do with each life, and is reset then.

    Attributes:
        played: the episodes that are over, None for the others.
    """

    def __init__(self, makers: Sequence[Callable[[], gym.Env[Any, Any]]], seeds: Sequence[int]) -> None:
        super().__init__(list(makers))
        self._seeds = list(seeds)
        self.played: list[Episode | None] = [None] * self.num_envs

    @property
    def open(self) -> list[int]:
        return [index for index, episode in enumerate(self.played) if episode is None]

    def step_wait(self) -> Any:
        self.buf_rews[:] = 0.0
        self.buf_dones[:] = False
        self.buf_infos = [{} for _ in self.envs]
        for index in self.open:
            env = self.envs[index]
            observation, self.buf_rews[index], terminated, truncated, info = env.step(self.actions[index])
            self.buf_infos[index] = info
            if terminated or truncated:
                self.buf_dones[index] = True
                info["TimeLimit.truncated"] = truncated and not terminated
                info["terminal_observation"] = observation
                observation = self._ended(index, observation)
            self._save_obs(index, observation)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), self.buf_infos

    def _ended(self, index: int, observation: Any) -> Any:
        if told := self.buf_infos[index].get("episode"):
            self.played[index] = Episode(float(told["r"]), int(told["l"]))
            return observation
        monitor = unwrap_wrapper(self.envs[index], Monitor)
        assert isinstance(monitor, Monitor)
        rewards = list(monitor.rewards)
        observation, self.reset_infos[index] = self.envs[index].reset()
        if len(monitor.rewards) < len(rewards):  # a wrapper around the monitor has cut the episode
            self.played[index] = Episode(float(sum(rewards)), len(rewards))
        return observation


def play(
    vec: VecEnv,
    acts: Acts,
    each_step: Callable[[], None],
    shown: Callable[[int, Any], None] = lambda *_: None,
) -> list[Episode]:
    """Play every episode of an `Episodes` to its end.

    Args:
        vec: the batch, with whatever is wrapped around it.
        acts: the policy; it is asked about the open episodes alone, unless it has hidden states.
        each_step: called before each step of the batch.
        shown: called with the number of an episode and what it showed in a step.
    """
    batch = vec.unwrapped
    assert isinstance(batch, Episodes)
    observations = vec.reset()
    starts, states, actions = np.ones(vec.num_envs, bool), None, None
    while rows := batch.open:
        each_step()
        if actions is None or states is not None:
            actions, states = acts(observations, states, starts, range(vec.num_envs))
        else:
            actions[rows], states = acts(row_of(observations, rows), None, starts[rows], rows)
        observations, rewards, starts, _ = vec.step(actions)
        for index in rows:
            shown(index, (row_of(observations, index), rewards[index], starts[index]))
    return [episode for episode in batch.played if episode is not None]


def row_of(observations: Any, rows: Any) -> Any:
    """The given rows of observations, which may be a dictionary of arrays."""
    if isinstance(observations, dict):
        return {key: value[rows] for key, value in observations.items()}
    return observations[rows]
