"""Whole episodes of any contender under any condition, and what is kept of each.

Gridlock is defined by its mechanism: a vehicle that has stood inside the junction for `GRIDLOCK_S`. Its onset is when
that vehicle came to a stand. Delay is split into what is lost in the network and what is waited for outside it, before
there is room to enter.

Promises: every contender meets the same window, signal, demand and seeds; no vehicle that is due in the window is
dropped from a mean or a count; an episode that breaks a physical bound raises and is never kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from kaggle_manager.errors import RunError
from validation_ch7.section_7_6_rl_performance import metrics
from validation_ch7.section_7_6_rl_performance.episodes import PARTS
from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.second_study.contenders import Contender
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.messages import Snapshot
from validation_ch7.section_7_6_rl_performance.simulation import Trip

GRIDLOCK_S = 150.0
"""Three of the longest greens: nothing that the signal shows has moved that vehicle."""

CONDITIONS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "demand x0.8": {"demand": 0.8},
    "demand x1.2": {"demand": 1.2},
    "demand x1.5": {"demand": 1.5},
    "shifted departures": {"departure_shift_s": 300},
    "sensor noise": {"sensor_noise": 0.3},
    "dead detector": {"dead_detector": True},
}
"""What the controllers meet without having been trained or tuned for it, as arguments of the environment.

Departures that are shifted by 0 to 300 s are easier traffic: platoons are spread, and some 4 % of the vehicles fall due
behind the end of the window. The noise is a factor of each reading, so where nothing stands nothing is seen.
"""


@dataclass(frozen=True)
class Episode:
    """One episode; seconds a trip unless said otherwise.

    Attributes:
        seed: of its traffic.
        demand: vehicles due in the window; `completed` left the network, `unfinished` were under way at the end,
            `never_inserted` found no room to enter.
        mean_delay_s: over all of them, the sum of the next two.
        mean_inside_s, mean_outside_s: lost in the network; waited for before entering it.
        p95_delay_s, worst_delay_s: of the single trips.
        mean_stops: a trip.
        mean_queue, max_queue: vehicles standing at the ends of decisions.
        switches_h: changes of green an hour.
        longest_red_s: longest time that vehicles stood on a lane without green, at the ends of decisions.
        gridlock_onset_s: seconds after the beginning; None for no gridlock.
        delay_by_part_s: mean delay of the vehicles due in each twelfth of the window; None where none was due.
        digest: of the simulator's history.
    """

    seed: int
    demand: int
    completed: int
    unfinished: int
    never_inserted: int
    mean_delay_s: float
    mean_inside_s: float
    mean_outside_s: float
    p95_delay_s: float
    worst_delay_s: float
    mean_stops: float
    mean_queue: float
    max_queue: int
    switches_h: float
    longest_red_s: int
    gridlock_onset_s: float | None
    delay_by_part_s: tuple[float | None, ...]
    digest: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def play(
    contender: Contender, env_kwargs: Mapping[str, Any], seeds: Sequence[int], condition: str = "as trained"
) -> Iterator[Episode]:
    """Yield the episode of each seed under a condition of `CONDITIONS`.

    Raises:
        RunError: SUMO failed, or an episode broke a physical bound.
    """
    controller = contender.make()
    own = {} if controller.decision_s is None else {"decision_s": controller.decision_s}
    env = SignalEnv(**{**env_kwargs, **CONDITIONS[condition], **own})
    try:
        for seed in seeds:
            observation, info = env.reset(seed=seed, options={"trips": True})
            controller.start(env, seed)
            truncated = False
            while not truncated:
                observation, _, _, truncated, info = env.step(controller.act(env, observation))
            yield _episode(env, contender.name, info["seed"])
    finally:
        env.close()


def _episode(env: SignalEnv, name: str, seed: int) -> Episode:
    history, site = env.history, env.intersection
    trips = history[-1].trips or ()
    found = metrics.summarise(trips, history)  # type: ignore[arg-type]  # of a snapshot it reads what stands
    if broken := metrics.impossible(found, trips, site.network_limit_m_s):
        raise RunError(
            f"{name} on {site.name}, seed {seed}: {'; '.join(broken[:3])}.",
            safe="the episode was not kept.",
            next_step="look at metrics.py and episode_server.py before believing any result.",
        )
    delays = [_delay_s(trip) for trip in trips] or [0.0]
    return Episode(
        seed=seed,
        demand=found.demand,
        completed=found.completed,
        unfinished=found.unfinished,
        never_inserted=found.never_inserted,
        mean_delay_s=found.mean_delay_s,
        mean_inside_s=found.mean_time_loss_s,
        mean_outside_s=found.mean_depart_delay_s,
        p95_delay_s=float(np.percentile(delays, 95)),
        worst_delay_s=max(delays),
        mean_stops=found.mean_stops,
        mean_queue=found.mean_queue,
        max_queue=int(found.max_queue),
        switches_h=history[-1].switches * 3600 / env.episode_s,
        longest_red_s=longest_red_s(site, history),
        gridlock_onset_s=gridlock_onset_s(history, site.begin_s),
        delay_by_part_s=_delay_by_part(trips, site.begin_s, env.episode_s),
        digest=history[-1].digest,
    )


def gridlock_onset_s(history: Sequence[Snapshot], begin_s: int) -> float | None:
    """When the vehicle came to a stand that stood inside the junction for `GRIDLOCK_S`, after `begin_s`."""
    for snapshot in history:
        if snapshot.longest_in_box_s >= GRIDLOCK_S:
            return snapshot.time_s - snapshot.longest_in_box_s - begin_s
    return None


def longest_red_s(site: Intersection, history: Sequence[Snapshot]) -> int:
    """The longest time that vehicles stood on a lane which no green served."""
    has_green = [
        {pair[0] for light, pair in zip(green, site.links, strict=True) if light in "Gg" and pair is not None}
        for green in site.greens
    ]
    since: dict[int, int] = {}
    longest_s = 0
    for snapshot in history:
        served = has_green[snapshot.phase] if snapshot.following is None else set()
        for lane, standing in enumerate(snapshot.halting):
            if lane in served or not standing:
                since.pop(lane, None)
            else:
                longest_s = max(longest_s, snapshot.time_s - since.setdefault(lane, snapshot.time_s))
    return longest_s


def _delay_s(trip: Trip) -> float:
    return trip.time_loss_s + trip.depart_delay_s


def _delay_by_part(trips: Sequence[Trip], begin_s: int, length_s: int) -> tuple[float | None, ...]:
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for trip in trips:
        part = int((trip.due_s - begin_s) / length_s * PARTS)
        parts[min(max(part, 0), PARTS - 1)].append(_delay_s(trip))
    return tuple(fmean(part) if part else None for part in parts)
