"""Detectors that are not perfect: what every controller sees instead, agents and baselines alike.

The signal's own box detector, the metrics and the reward are not touched: what happened is judged, not what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validation_ch7.section_7_6_rl_performance.second_study.messages import OF_A_LANE, Numbers, Readings


@dataclass(frozen=True)
class Faults:
    """How the detectors of an episode fail.

    Attributes:
        noise: standard deviation of the relative error of a detector; all that a lane's detector says at one moment is
            wrong by the same factor, drawn anew at each look.
        dead: whether one incoming lane's detector says nothing all the time: that of lane `seed % lanes`, so that over
            many episodes every lane has its turn.
    """

    noise: float = 0.0
    dead: bool = False

    def seen(self, readings: Readings, seed: int, rng: np.random.Generator) -> Readings:
        """What is seen of `readings` in the episode of this traffic seed."""
        if not self.noise and not self.dead:
            return readings
        lanes, exits = len(readings.vehicles), len(readings.exit_vehicles)
        works = np.ones(lanes)
        if self.dead:
            works[seed % lanes] = 0.0
        of_lanes, of_exits = works * self._factors(lanes, rng), self._factors(exits, rng)
        return Readings(*(each * (of_lanes if place < OF_A_LANE else of_exits) for place, each in enumerate(readings)))

    def _factors(self, detectors: int, rng: np.random.Generator) -> Numbers:
        return np.asarray(np.maximum(0.0, 1.0 + self.noise * rng.standard_normal(detectors)))
