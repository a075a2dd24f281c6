"""A traffic signal to control: one real SUMO simulation behind the gymnasium interface.

Promises: observations, rewards and simulator state are a function of the constructor's arguments, the seed of the
episode and the actions - bit for bit, in this process or in another, whatever ran before. A green is never cut below
its minimum and never followed by a conflicting green without yellow.

An action is the index of the green phase to show next, `Discrete(P)`. Observation: see `observation.py`. Reward: see
`reward.py`. An episode is a fixed time window, so it ends truncated, never terminated.

`info` carries after every reset and step `seed` (of this episode: `reset(seed=info["seed"])` replays it), `time_s`,
`phase` and `digest` (of the simulator's history), and at the end of the episode `metrics`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, SupportsInt

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance import metrics, observation
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.reward import reward
from validation_ch7.section_7_6_rl_performance.signal_plan import SignalPlan
from validation_ch7.section_7_6_rl_performance.simulation import EpisodeRequest, Order, Simulation, Snapshot

NEAR_M = 50.0
"""How far the greedy baseline looks: RESCO's setting for MAXWAVE."""


class TrafficSignalEnv(gym.Env[npt.NDArray[np.float32], SupportsInt]):
    """One signalled intersection.

    Args:
        intersection: `synthetic`, `cologne1` or `ingolstadt1`.
        episode_s: length of the window in seconds; the intersection's own when absent. A multiple of `decision_s`.
        decision_s: seconds from one decision to the next (RESCO: 10).
        yellow_s: seconds of yellow before a conflicting green (RESCO's runs: 3).
        min_green_s: a green shown for less than this is kept, whatever the action.
        detection_m: how far from the stop line vehicles are seen, in metres (RESCO: 200).
        plan: who shows the greens instead of the actions, which are then ignored; None for the agent.

    Raises:
        ConfigError: an argument that cannot be simulated, or a network that is not installed.
        RunError: SUMO cannot start; the message names the missing library.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium declares it on the instance

    def __init__(
        self,
        intersection: str = "synthetic",
        *,
        episode_s: int | None = None,
        decision_s: int = 10,
        yellow_s: int = 3,
        min_green_s: int = 5,
        detection_m: float = 200.0,
        plan: SignalPlan | None = None,
    ) -> None:
        self.intersection = find_intersection(intersection)
        self.episode_s = self.intersection.duration_s if episode_s is None else episode_s
        if not 0 <= yellow_s < decision_s or self.episode_s <= 0 or self.episode_s % decision_s:
            raise ConfigError(
                f"episode_s = {self.episode_s}, decision_s = {decision_s}, yellow_s = {yellow_s} cannot be simulated.",
                next_step="make episode_s a positive multiple of decision_s, and yellow_s shorter than decision_s.",
            )
        self.decision_s, self.yellow_s, self.min_green_s = decision_s, yellow_s, min_green_s
        self.detection_m, self.plan = detection_m, plan
        self._phases = len(self.intersection.greens)
        self._capacity = observation.capacities(self.intersection.lanes, detection_m)
        shape = (self._phases + 1 + 2 * len(self.intersection.lanes),)
        self.observation_space = gym.spaces.Box(0.0, 1.0, shape, np.float32)
        self.action_space = gym.spaces.Discrete(self._phases)
        self.phase = 0
        self.green_s = 0
        self.snapshot: Snapshot | None = None
        self._history: list[Snapshot] = []
        self._seed = 0
        self._simulation = Simulation()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start the episode `seed`, or the next one of this environment's random sequence."""
        super().reset(seed=seed, options=options)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed % 2**31
        self.phase, self.green_s = 0, 0
        site = self.intersection
        self.snapshot = self._simulation.start(
            EpisodeRequest(
                net_file=str(site.net_file),
                route_file=str(site.route_file),
                begin_s=site.begin_s,
                end_s=site.begin_s + self.episode_s,
                seed=self._seed,
                signal_id=site.signal_id,
                initial_state=site.greens[0] if self.plan is None else None,
                lanes=tuple((lane.id, lane.length_m) for lane in site.lanes),
                exits=tuple(lane.id for lane in site.exits),
                detection_m=self.detection_m,
                near_m=NEAR_M,
                program=None
                if self.plan is None
                else self.plan.program(site, yellow_s=self.yellow_s, min_green_s=self.min_green_s),
            )
        )
        self._history = []
        return self._observation(self.snapshot), self._info(self.snapshot)

    def step(self, action: SupportsInt) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Ask for green phase `action` and let `decision_s` seconds pass."""
        self.snapshot = self._simulation.advance(self._orders(int(action)))
        self._history.append(self.snapshot)
        payment = reward(sum(self.snapshot.waiting_s), float(self._capacity.sum()))
        truncated = self.snapshot.trips is not None
        return self._observation(self.snapshot), payment, False, truncated, self._info(self.snapshot)

    def close(self) -> None:
        """End the simulator's processes."""
        self._simulation.close()

    @property
    def history(self) -> tuple[Snapshot, ...]:
        """The snapshots at the ends of this episode's decisions, so far."""
        return tuple(self._history)

    @property
    def sumo_version(self) -> str:
        """The simulator's version, as it states it."""
        return self._simulation.sumo_version

    def _orders(self, wanted: int) -> list[Order]:
        if not 0 <= wanted < self._phases:
            raise ValueError(
                f"action {wanted} is not a green phase of {self.intersection.name} (0..{self._phases - 1})"
            )
        if self.plan is not None:
            return [(None, self.decision_s)]
        greens = self.intersection.greens
        if wanted == self.phase or not self._may_switch():
            self.green_s += self.decision_s
            return [(greens[self.phase], self.decision_s)]
        yellow = self.intersection.yellow(self.phase, wanted)
        self.phase = wanted
        yellow_s = self.yellow_s if yellow else 0
        self.green_s = self.decision_s - yellow_s
        return [(yellow, yellow_s), (greens[wanted], self.green_s)] if yellow_s else [(greens[wanted], self.green_s)]

    def _may_switch(self) -> bool:
        return self.green_s >= self.min_green_s

    def _observation(self, snapshot: Snapshot) -> npt.NDArray[np.float32]:
        return observation.observe(
            snapshot, self.phase, self._phases, may_switch=self._may_switch(), capacity=self._capacity
        )

    def _info(self, snapshot: Snapshot) -> dict[str, Any]:
        info = {"seed": self._seed, "time_s": snapshot.time_s, "phase": self.phase, "digest": snapshot.digest}
        if snapshot.trips is not None:
            info["metrics"] = asdict(metrics.summarise(snapshot.trips, self._history))
        return info
