"""What the agent sees: a vector of floats in [0, 1], put together from groups that an ablation may leave out.

| group | length | what |
|---|---|---|
| `phase` | P | one-hot of the green phase, of the coming one while the signal changes |
| `timing` | 3 | whether the signal changes; seconds of green over the longest green; whether the green may end now |
| `density` | L | vehicles within the detection distance over the number that fits there |
| `queue` | L | standing ones, likewise |
| `near` | L | vehicles within the near distance over the number that fits there |
| `longest_wait` | L | how long the vehicle of the lane that has waited longest has, over two minutes |
| `exits` | 2 E | vehicles, and standing ones, over the number that fits on the outgoing lane |
| `box` | L | vehicles standing inside the junction that came from the lane, over four |

P green phases, L incoming lanes, E outgoing lanes. Whatever exceeds its divisor is cut off at 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.observation import VEHICLE_M
from validation_ch7.section_7_6_rl_performance.second_study.junction import Junction
from validation_ch7.section_7_6_rl_performance.second_study.messages import Readings, Snapshot
from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import Timing

GROUPS = ("phase", "timing", "density", "queue", "near", "longest_wait", "exits", "box")
LONG_WAIT_S = 120.0
FULL_BOX = 4.0

Vector = npt.NDArray[np.float32]


class Observer:
    """Puts observations together.

    Args:
        site, junction: of the intersection.
        timing: of its signal.
        detection_m, near_m: the two distances of the detectors.
        groups: those of `GROUPS` that are seen; always in the order of that table.

    Attributes:
        length: of an observation.
        places: vehicles that fit on all approaches within the detection distance.
    """

    def __init__(
        self,
        site: Intersection,
        junction: Junction,
        timing: Timing,
        *,
        detection_m: float,
        near_m: float,
        groups: Sequence[str] = GROUPS,
    ) -> None:
        self._phases, self._timing = len(site.greens), timing
        self._groups = [group for group in GROUPS if group in groups]
        far, near = junction.places(detection_m, VEHICLE_M), junction.places(near_m, VEHICLE_M)
        exits = [max(1.0, lane.length_m / VEHICLE_M) for lane in site.exits]
        lanes = len(far)
        size = dict(zip(GROUPS, (self._phases, 3, lanes, lanes, lanes, lanes, 2 * len(exits), lanes), strict=True))
        self.length = sum(size[group] for group in self._groups)
        self.places = sum(far)
        whole = {
            "density": far,
            "queue": far,
            "near": near,
            "longest_wait": [LONG_WAIT_S] * lanes,
            "exits": exits * 2,
            "box": [FULL_BOX] * lanes,
        }
        self._whole = np.concatenate([whole.get(group, np.ones(size[group])) for group in self._groups])

    def see(self, snapshot: Snapshot, seen: Readings) -> Vector:
        """The observation of a moment of which the detectors say `seen`."""
        parts = [self._part(group, snapshot, seen) for group in self._groups]
        return np.asarray((np.concatenate(parts) / self._whole).clip(0.0, 1.0), np.float32)

    def _part(self, group: str, snapshot: Snapshot, seen: Readings) -> Sequence[float] | npt.NDArray[np.float64]:
        is_changing = snapshot.following is not None
        if group == "phase":
            shown = snapshot.phase if snapshot.following is None else snapshot.following
            return [float(phase == shown) for phase in range(self._phases)]
        if group == "timing":
            green_s = 0 if is_changing else snapshot.green_s
            may_end = green_s >= self._timing.min_green_s
            return [float(is_changing), green_s / self._timing.max_green_s, float(may_end)]
        if group == "exits":
            return np.concatenate([seen.exit_vehicles, seen.exit_halting])
        return {
            "density": seen.vehicles,
            "queue": seen.halting,
            "near": seen.near,
            "longest_wait": seen.longest_wait_s,
            "box": seen.in_box,
        }[group]
