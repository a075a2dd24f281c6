"""Baselines nobody can call straw men, all through the same signal: same yellow, clearance, least and longest green.

Each decides as often as its method wants (those that a real cabinet carries out, each second; the others with the
agent), sees at most what the agent's detectors see (`SignalEnv.seen`), and acts through `step` alone. Parameters are
chosen by simulation on development seeds (`development.py`, kept in `development/`), which no result is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from validation_ch7.section_7_6_rl_performance.baselines import RESCO_LANES
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.messages import Numbers

Observation = npt.NDArray[np.float32]
EACH_SECOND = 1


class Controller(Protocol):
    """Asks for a green, decision after decision. `start` is called once an episode, before the first.

    `decision_s` is how often it decides; None for as often as the agent.
    """

    decision_s: ClassVar[int | None]

    def start(self, env: SignalEnv, seed: int) -> None: ...
    def act(self, env: SignalEnv, observation: Observation) -> int: ...


@dataclass
class _Rule:
    """A controller that remembers the intersection: which lanes each green serves, and what they lead to."""

    decision_s: ClassVar[int | None] = None

    def start(self, env: SignalEnv, seed: int) -> None:
        site = env.intersection
        self._phases = len(site.greens)
        served = [site.served(phase) for phase in range(self._phases)]
        self._lanes, self._exits = [list(lanes) for lanes, _ in served], [list(exits) for _, exits in served]

    def _now(self, env: SignalEnv) -> int | None:
        """The green that may be left now; None while the signal changes."""
        assert env.snapshot is not None
        return None if env.snapshot.following is not None else env.snapshot.phase

    def _shown(self, env: SignalEnv) -> int:
        """The green shown, or coming."""
        assert env.snapshot is not None
        return env.snapshot.phase if env.snapshot.following is None else env.snapshot.following

    def _by_phase(self, values: Numbers) -> list[float]:
        """The sum over the lanes that each green serves."""
        return [float(values[lanes].sum()) for lanes in self._lanes]


@dataclass
class Random(_Rule):
    """Any green, with equal chances; the sequence follows the episode's seed."""

    def start(self, env: SignalEnv, seed: int) -> None:
        super().start(env, seed)
        self._rng = np.random.default_rng(seed)

    def act(self, env: SignalEnv, observation: Observation) -> int:
        return int(self._rng.integers(self._phases))


@dataclass
class FixedTime(_Rule):
    """The greens in turn, each for its seconds: those of the shipped plan, or tuned by simulation."""

    greens_s: Sequence[int]

    decision_s: ClassVar[int | None] = EACH_SECOND

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.snapshot is not None
        phase = self._now(env)
        if phase is not None and env.snapshot.green_s >= self.greens_s[phase]:
            return (phase + 1) % self._phases
        return self._shown(env)


@dataclass
class Actuated(_Rule):
    """A fully actuated signal with phase skipping (Signal Timing Manual, FHWA 2008, chapter 5), by presence detectors.

    A green ends when nobody has been on its lanes within the near distance for `gap_s`, or when it has lasted as long
    as `longest_s` says of its phase; the next one in turn with somebody on its lanes follows. It rests in green where
    nobody is elsewhere.
    """

    gap_s: int
    longest_s: Sequence[int]

    decision_s: ClassVar[int | None] = EACH_SECOND

    def start(self, env: SignalEnv, seed: int) -> None:
        super().start(env, seed)
        self._empty_s = 0

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.snapshot is not None
        assert env.seen is not None
        phase = self._now(env)
        if phase is None:
            self._empty_s = 0
            return self._shown(env)
        near = self._by_phase(env.seen.near)
        self._empty_s = 0 if near[phase] else self._empty_s + 1
        if self._empty_s > self.gap_s or env.snapshot.green_s >= self.longest_s[phase]:
            calls = self._by_phase(env.seen.vehicles)
            for step in range(1, self._phases):
                if calls[other := (phase + step) % self._phases]:
                    return other
        return phase


@dataclass
class SelfOrganizing(_Rule):
    """SOTL: C. Gershenson, "Self-organizing traffic lights", Complex Systems 16 (2005), with the rule for platoons.

    For each red phase the vehicles on its lanes are added up, second by second, since it was last green. The phase
    whose sum is largest is shown once that exceeds `threshold` (vehicles times seconds), unless between one and
    `platoon` vehicles are near on the lanes that have green: the tail of a platoon is not cut off.
    """

    threshold: float
    platoon: int

    decision_s: ClassVar[int | None] = EACH_SECOND

    def start(self, env: SignalEnv, seed: int) -> None:
        super().start(env, seed)
        self._sums = np.zeros(self._phases)

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.seen is not None
        shown, phase = self._shown(env), self._now(env)
        counted = env.seen.vehicles.copy()
        counted[self._lanes[shown]] = env.seen.halting[self._lanes[shown]]  # on a green lane only who cannot go
        self._sums += self._by_phase(counted)
        self._sums[shown] = 0.0
        most = int(np.argmax(self._sums))
        if phase is None or self._sums[most] < self.threshold:
            return shown
        near = float(env.seen.near[self._lanes[phase]].sum())
        return phase if 0 < near <= self.platoon else most


@dataclass
class LongestQueue(_Rule):
    """The phase with the most standing vehicles, where it has `ahead` more than the one shown (hysteresis)."""

    ahead: float

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.seen is not None
        return _unless_ahead(self._by_phase(env.seen.halting), self._shown(env), self.ahead)


@dataclass
class GreedyQueue(_Rule):
    """The phase with the most vehicles near the stop lines: MAXWAVE, counting the lanes that RESCO counts."""

    def start(self, env: SignalEnv, seed: int) -> None:
        super().start(env, seed)
        self._counted = [list(lanes) for lanes in RESCO_LANES.get(env.intersection.name, ())] or self._lanes

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.seen is not None
        return int(np.argmax([float(env.seen.near[lanes].sum()) for lanes in self._counted]))


@dataclass
class MaxPressure(_Rule):
    """The phase with the longest queues before it and the shortest behind it (Varaiya, 2013; queues as in RESCO).

    With `ahead`, only where its pressure is so much more than that of the phase shown.
    """

    ahead: float

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.seen is not None
        queued, behind = self._by_phase(env.seen.queued), env.seen.exit_halting
        pressures = [before - float(behind[self._exits[phase]].sum()) for phase, before in enumerate(queued)]
        return _unless_ahead(pressures, self._shown(env), self.ahead)


@dataclass
class AdvancedMaxPressure(_Rule):
    """Advanced-MP: L. Zhang et al., "Expression might be enough: representing pressure and demand for reinforcement
    learning based traffic signal control", ICML 2022.

    The efficient pressure of a phase is the mean queue of the lanes before it minus the mean queue of those behind it,
    for each movement (Q. Wu et al., "Efficient pressure", 2021). The green is kept while the demand on its lanes -
    vehicles that would still pass, here those that move within the near distance - times `weight` is at least the
    largest pressure; else the phase with the largest pressure is shown.
    """

    weight: float

    def act(self, env: SignalEnv, observation: Observation) -> int:
        assert env.seen is not None
        seen, shown = env.seen, self._shown(env)
        pressures = [
            float(seen.halting[lanes].sum() - len(lanes) * seen.exit_halting[exits].mean())
            for lanes, exits in zip(self._lanes, self._exits, strict=True)
        ]
        demand = float(seen.approaching[self._lanes[shown]].sum())
        best = int(np.argmax(pressures))
        return shown if demand * self.weight >= pressures[best] else best


def _unless_ahead(values: Sequence[float], shown: int, ahead: float) -> int:
    """The phase of the largest value; the one shown while that is not larger by more than `ahead`."""
    best = int(np.argmax(values))
    return best if values[best] > values[shown] + ahead else shown
