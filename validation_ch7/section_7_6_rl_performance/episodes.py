"""Whole episodes of any contender, and what is kept of each.

Promises: every contender meets the same window, decisions, yellow, demand and seeds; an episode that breaks a physical
bound raises and is never kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from kaggle_manager.errors import RunError
from validation_ch7.section_7_6_rl_performance import metrics
from validation_ch7.section_7_6_rl_performance.baselines import Contender
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.metrics import EpisodeMetrics
from validation_ch7.section_7_6_rl_performance.simulation import Trip

PARTS = 12
"""Into how many parts the window is cut to show how delay develops: five minutes each, in an hour."""


@dataclass(frozen=True)
class Episode:
    """One held-out episode.

    Attributes:
        seed: of its traffic.
        metrics: of all its trips.
        queue: halting vehicles at the end of each decision.
        delay_by_part_s: mean delay of the vehicles due in each twelfth of the window; None where none was due.
        digest: of the simulator's history.
    """

    seed: int
    metrics: EpisodeMetrics
    queue: tuple[int, ...]
    delay_by_part_s: tuple[float | None, ...]
    digest: str

    @property
    def completed_share(self) -> float:
        """Share of the demand that left the network within the window."""
        return self.metrics.completed / max(1, self.metrics.demand)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Episode:
        """Raises TypeError, KeyError or ValueError for anything `as_json` did not write."""
        found = EpisodeMetrics(**values["metrics"])
        if found.completed + found.unfinished + found.never_inserted != found.demand or found.mean_delay_s < 0:
            raise ValueError(f"the episode of seed {values['seed']} is not physically possible")
        return cls(
            int(values["seed"]), found, tuple(values["queue"]), tuple(values["delay_by_part_s"]), str(values["digest"])
        )


def play(contender: Contender, env_kwargs: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[Episode]:
    """Yield the episode of each seed.

    Raises:
        RunError: SUMO failed, or an episode broke a physical bound.
    """
    env = TrafficSignalEnv(**env_kwargs, plan=contender.plan)
    controller = contender.make() if contender.make else None
    try:
        for seed in seeds:
            observation, info = env.reset(seed=seed)
            if controller is not None:
                controller.start(seed)
            truncated = False
            while not truncated:
                action = 0 if controller is None else controller.act(env, observation)
                observation, _, _, truncated, info = env.step(action)
            yield _episode(env, contender.name, seed, info)
    finally:
        env.close()


def _episode(env: TrafficSignalEnv, name: str, seed: int, info: Mapping[str, Any]) -> Episode:
    trips = env.history[-1].trips or ()
    found = EpisodeMetrics(**info["metrics"])
    if broken := metrics.impossible(found, trips, env.intersection.network_limit_m_s):
        raise RunError(
            f"{name} on {env.intersection.name}, seed {seed}: {'; '.join(broken[:3])}.",
            safe="the episode was not kept.",
            next_step="look at metrics.py and episode_server.py before believing any result.",
        )
    queue = tuple(sum(snapshot.halting) for snapshot in env.history)
    begin_s = env.intersection.begin_s
    return Episode(seed, found, queue, _delay_by_part(trips, begin_s, env.episode_s), info["digest"])


def _delay_by_part(trips: Sequence[Trip], begin_s: int, length_s: int) -> tuple[float | None, ...]:
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for trip in trips:
        part = int((trip.due_s - begin_s) / length_s * PARTS)
        parts[min(max(part, 0), PARTS - 1)].append(trip.time_loss_s + trip.depart_delay_s)
    return tuple(fmean(part) if part else None for part in parts)
