"""Classical controllers on the agent's own interface: same decisions, same yellow, same detection, same traffic.

Promises: a controller sees at most what the agent's detectors see, and acts through `step` alone. The plan shipped
with a network, run by SUMO itself, is `TrafficSignalEnv(controlled=False)`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.metrics import EpisodeMetrics


class Controller(Protocol):
    """Chooses the next green phase of an environment whose episode runs. `start` is called once an episode."""

    def start(self, seed: int) -> None: ...
    def act(self, env: TrafficSignalEnv) -> int: ...


class FixedTime:
    """Cycles through the green phases for their shipped durations, counted in whole decisions (at least one)."""

    def start(self, seed: int) -> None:
        self._decision = 0

    def act(self, env: TrafficSignalEnv) -> int:
        cycle = [
            phase
            for phase, green_s in enumerate(env.intersection.green_durations_s)
            for _ in range(max(1, round((green_s + env.yellow_s) / env.decision_s)))
        ]
        self._decision += 1
        return cycle[(self._decision - 1) % len(cycle)]


class Random:
    """Any green phase, with equal chances; the sequence follows the episode's seed."""

    def start(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, env: TrafficSignalEnv) -> int:
        return int(self._rng.integers(len(env.intersection.greens)))


class MaxPressure:
    """The phase with the longest queues before it and the shortest behind it (Varaiya, 2013; queues as in RESCO)."""

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv) -> int:
        now = env.snapshot
        assert now is not None
        pressures = []
        for phase in range(len(env.intersection.greens)):
            lanes, exits = env.intersection.served(phase)
            pressures.append(sum(now.queued[lane] for lane in lanes) - sum(now.exit_halting[exit_] for exit_ in exits))
        return int(np.argmax(pressures))


class GreedyQueue:
    """The phase that serves the most vehicles, standing or arriving, close to the stop line (RESCO's MAXWAVE)."""

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv) -> int:
        now = env.snapshot
        assert now is not None
        phases = range(len(env.intersection.greens))
        return int(np.argmax([sum(now.near[lane] for lane in env.intersection.served(phase)[0]) for phase in phases]))


def run_episode(env: TrafficSignalEnv, controller: Controller, seed: int) -> EpisodeMetrics:
    """One whole episode under `controller`, with the traffic of `seed`."""
    env.reset(seed=seed)
    controller.start(seed)
    truncated = False
    info: dict[str, Any] = {}
    while not truncated:
        _, _, _, truncated, info = env.step(controller.act(env))
    return EpisodeMetrics(**info["metrics"])
