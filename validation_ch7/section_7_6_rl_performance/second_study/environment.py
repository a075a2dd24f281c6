"""The environment of the second study: a signal that can be built, seen and paid by what it is judged by.

Promises: observations, rewards and simulator state are a function of the constructor's arguments, the seed of the
episode and the actions - bit for bit, in this process or in another, whatever ran before. What the signal may show is
the business of `signal_controller.py` alone, for agents and baselines alike.

An action is the index of the green phase to ask for, `Discrete(P)`: it is asked for throughout the decision, so a green
that may not end yet ends as soon as it may. Observation: see `observation.py`. Reward: see `reward.py`. An episode is a
fixed time window, so it ends truncated, never terminated.

`info` carries after every reset and step `seed` (of this episode: `reset(seed=info["seed"])` replays it), `time_s` and
`digest` (of the simulator's history). Trips are counted where `reset(options={"trips": True})` asks for it: training
needs none, and they cost a tenth of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsInt

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.second_study.faults import Faults
from validation_ch7.section_7_6_rl_performance.second_study.junction import read_junction
from validation_ch7.section_7_6_rl_performance.second_study.messages import EpisodeRequest, Readings, Snapshot
from validation_ch7.section_7_6_rl_performance.second_study.observation import GROUPS, LAYOUTS, Observer
from validation_ch7.section_7_6_rl_performance.second_study.reward import REWARDS
from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import Timing
from validation_ch7.section_7_6_rl_performance.second_study.simulation import Simulation


class SignalEnv(gym.Env[npt.NDArray[np.float32], SupportsInt]):
    """One signalled intersection.

    Args:
        site: `synthetic`, `cologne1` or `ingolstadt1`.
        episode_s: length of the window in seconds; the intersection's own when absent. A multiple of `decision_s`.
        decision_s: seconds from one decision to the next.
        yellow_s, longest_clearance_s, min_green_s, max_green_s: see `signal_controller.Timing`.
        detection_m, near_m: how far before the stop line vehicles are seen, and are near, in metres.
        observed, layout: the groups of the observation, and how they are put together.
        reward: which one is paid.
        demand, departure_shift_s: other traffic, see `messages.EpisodeRequest`.
        sensor_noise, dead_detector: imperfect detectors, see `faults.Faults`.

    Raises:
        ConfigError: an argument that cannot be simulated, or a network that is not installed.
        RunError: SUMO cannot start; the message names the missing library.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium declares it on the instance

    def __init__(
        self,
        site: str = "synthetic",
        *,
        episode_s: int | None = None,
        decision_s: int = 5,
        yellow_s: int = Timing.yellow_s,
        longest_clearance_s: int = Timing.longest_clearance_s,
        min_green_s: int = Timing.min_green_s,
        max_green_s: int = Timing.max_green_s,
        detection_m: float = 200.0,
        near_m: float = 50.0,
        observed: Sequence[str] = GROUPS,
        layout: str = "lanes",
        reward: str = "delay",
        demand: float = 1.0,
        departure_shift_s: int = 0,
        sensor_noise: float = 0.0,
        dead_detector: bool = False,
    ) -> None:
        self.intersection = find_intersection(site)
        self.episode_s = self.intersection.duration_s if episode_s is None else episode_s
        if decision_s < 1 or self.episode_s <= 0 or self.episode_s % decision_s:
            raise ConfigError(
                f"episode_s = {self.episode_s}, decision_s = {decision_s} cannot be simulated.",
                next_step="make episode_s a positive multiple of decision_s.",
            )
        if not (yellow_s >= 0 and longest_clearance_s >= 0 and 1 <= min_green_s <= max_green_s):
            raise ConfigError(
                f"yellow_s = {yellow_s}, longest_clearance_s = {longest_clearance_s}, min_green_s = {min_green_s}, "
                f"max_green_s = {max_green_s} cannot be shown.",
                next_step="make none of them negative, min_green_s at least 1 and max_green_s no shorter.",
            )
        if unknown := [*({*observed} - {*GROUPS}), *({layout} - {*LAYOUTS}), *({reward} - REWARDS.keys())]:
            raise ConfigError(
                f"There is no {unknown[0]!r} to observe or to pay.",
                next_step=f"choose among observed: {', '.join(GROUPS)}; layout: {', '.join(LAYOUTS)}; "
                f"reward: {', '.join(REWARDS)}.",
            )
        self.decision_s = decision_s
        self.timing = Timing(yellow_s, longest_clearance_s, min_green_s, max_green_s)
        self.junction = read_junction(self.intersection, detection_m)
        self._detection_m, self._near_m = detection_m, near_m
        self._demand, self._departure_shift_s = demand, departure_shift_s
        self._faults = Faults(sensor_noise, dead_detector)
        self._observer = Observer(
            self.intersection,
            self.junction,
            self.timing,
            detection_m=detection_m,
            near_m=near_m,
            groups=observed,
            layout=layout,
        )
        self._reward = REWARDS[reward]
        self.observation_space = gym.spaces.Box(0.0, 1.0, (self._observer.length,), np.float32)
        self.action_space = gym.spaces.Discrete(len(self.intersection.greens))
        self.snapshot: Snapshot | None = None
        self.seen: Readings | None = None
        self._history: list[Snapshot] = []
        self._seed = 0
        self._noise = np.random.default_rng(0)
        self._simulation = Simulation()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start the episode `seed`, or the next one of this environment's random sequence."""
        super().reset(seed=seed, options=options)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed % 2**31
        self._noise = np.random.default_rng(self._seed)
        self._history = []
        site = self.intersection
        request = EpisodeRequest(
            net_file=str(site.net_file),
            route_file=str(site.route_file),
            begin_s=site.begin_s,
            end_s=site.begin_s + self.episode_s,
            seed=self._seed,
            signal_id=site.signal_id,
            timing=self.timing,
            greens=site.greens,
            links=site.links,
            approaches=self.junction.approaches,
            boxes=self.junction.boxes,
            exits=tuple(lane.id for lane in site.exits),
            detection_m=self._detection_m,
            near_m=self._near_m,
            demand=self._demand,
            departure_shift_s=self._departure_shift_s,
            trips=bool((options or {}).get("trips")),
        )
        return self._look(self._simulation.start(request))

    def step(self, action: SupportsInt) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Ask for green phase `action` and let `decision_s` seconds pass."""
        wanted, phases = int(action), len(self.intersection.greens)
        if not 0 <= wanted < phases:
            raise ValueError(f"action {wanted} is not a green phase of {self.intersection.name} (0..{phases - 1})")
        snapshot = self._simulation.advance(wanted, self.decision_s)
        self._history.append(snapshot)
        observation, info = self._look(snapshot)
        is_over = snapshot.time_s >= self.intersection.begin_s + self.episode_s
        return observation, self._reward(snapshot, self.decision_s, self._observer.places), False, is_over, info

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

    def _look(self, snapshot: Snapshot) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        self.snapshot, self.seen = snapshot, self._faults.seen(snapshot.readings, self._seed, self._noise)
        info = {"seed": self._seed, "time_s": snapshot.time_s, "digest": snapshot.digest}
        return self._observer.see(snapshot, self.seen), info
