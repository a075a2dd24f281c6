"""Classical controllers, all on the agent's terms: same greens, same yellow, same minimum green, same traffic.

Promises: those that decide see at most what the agent's detectors see, and act through `step` alone; those that are
plans are carried out by SUMO itself. Parameters that were tuned were tuned on traffic that no result is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from validation_ch7.section_7_6_rl_performance import webster
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.signal_plan import SignalPlan

Observation = npt.NDArray[np.float32]


class Controller(Protocol):
    """Chooses the next green phase of an environment whose episode runs. `start` is called once an episode."""

    def start(self, seed: int) -> None: ...
    def act(self, env: TrafficSignalEnv, observation: Observation) -> int: ...


@dataclass(frozen=True)
class Contender:
    """Something that controls an intersection.

    Attributes:
        name: `fixed_time`, `max_pressure`, ..., or `model` for a trained one.
        plan: what SUMO shows by itself; None for a controller that decides.
        make: makes the controller; None for a plan.
        content: what tells two contenders of one name apart; JSON values.
    """

    name: str
    plan: SignalPlan | None = None
    make: Callable[[], Controller] | None = None
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Name, plan and content, as JSON values."""
        return {"name": self.name, "plan": self.plan and asdict(self.plan), **self.content}


class Random:
    """Any green phase, with equal chances; the sequence follows the episode's seed."""

    def start(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, env: TrafficSignalEnv, observation: Observation) -> int:
        return int(self._rng.integers(len(env.intersection.greens)))


class MaxPressure:
    """The phase with the longest queues before it and the shortest behind it (Varaiya, 2013; queues as in RESCO)."""

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv, observation: Observation) -> int:
        now = env.snapshot
        assert now is not None
        pressures = []
        for phase in range(len(env.intersection.greens)):
            lanes, exits = env.intersection.served(phase)
            pressures.append(sum(now.queued[lane] for lane in lanes) - sum(now.exit_halting[exit_] for exit_ in exits))
        return int(np.argmax(pressures))


# The lanes RESCO counts for each green where they are not those it serves: in its table of directions the left-turn
# lane (2) of Ingolstadt belongs to no green, and two lanes that are served twice (3, 5) to one.
RESCO_LANES = {"ingolstadt1": ((0, 1, 5, 6), (0, 1), (3, 4))}


class GreedyQueue:
    """The phase with the most vehicles, standing or arriving, close to its stop lines: MAXWAVE, as RESCO counts it."""

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv, observation: Observation) -> int:
        now = env.snapshot
        assert now is not None
        site = env.intersection
        counted = RESCO_LANES.get(site.name) or [site.served(phase)[0] for phase in range(len(site.greens))]
        return int(np.argmax([sum(now.near[lane] for lane in lanes) for lanes in counted]))


# Best mean delay over traffic seeds 501-506 among max-gap 2, 3, 5 s and longest green 20, 30, 40 s.
ACTUATED: dict[str, Any] = {
    "synthetic": {"longest_green_s": 40, "parameters": (("max-gap", "2.0"),)},
    "cologne1": {"longest_green_s": 30, "parameters": (("max-gap", "5.0"),)},
    "ingolstadt1": {"longest_green_s": 30, "parameters": (("max-gap", "2.0"),)},
}
# The same among detector ranges of 100, 200 m and longest green 20, 30, 40 s.
DELAY_BASED: dict[str, Any] = {
    "synthetic": {"longest_green_s": 40, "parameters": (("detectorRange", "200"),)},
    "cologne1": {"longest_green_s": 20, "parameters": (("detectorRange", "200"),)},
    "ingolstadt1": {"longest_green_s": 20, "parameters": (("detectorRange", "100"),)},
}


def baselines(site: Intersection, *, yellow_s: int, min_green_s: int) -> list[Contender]:
    """Every baseline for one intersection, in the order of the tables."""
    shipped = site.green_durations_s
    return [
        Contender("fixed_time", SignalPlan("shipped")),
        Contender("webster", SignalPlan("static", webster.greens(site, yellow_s=yellow_s, min_green_s=min_green_s))),
        Contender("actuated", SignalPlan("actuated", shipped, **ACTUATED[site.name])),
        Contender("delay_based", SignalPlan("delay_based", shipped, **DELAY_BASED[site.name])),
        Contender("greedy_queue", make=GreedyQueue),
        Contender("max_pressure", make=MaxPressure),
        Contender("random", make=Random),
    ]
