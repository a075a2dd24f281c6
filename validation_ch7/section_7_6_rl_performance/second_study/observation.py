"""What the agent sees: floats in [0, 1], put together from groups that an ablation may leave out.

| group | length | what |
|---|---|---|
| `phase` | P | one-hot of the green phase, of the coming one while the signal changes |
| `timing` | 3 | whether the signal changes; seconds of green over the longest green; whether the green may end now |
| `density` | L | vehicles within the detection distance over the number that fits there |
| `queue` | L | standing ones, likewise |
| `near` | L | vehicles within the near distance over the number that fits there |
| `approaching` | L | those of them that move, likewise |
| `longest_wait` | L | how long the vehicle of the lane that has waited longest has, over two minutes |
| `exits` | 2 E | vehicles, and standing ones, over the number that fits on the outgoing lane |
| `box` | L | vehicles standing inside the junction that came from the lane, over four |

P green phases, L incoming lanes, E outgoing lanes. Whatever exceeds its divisor is cut off at 1.

In the layout `lanes` that is the vector. In the layout `phases` each phase has a block of the same length, so that one
network can value every phase (`phase_network.py`): whether it is shown, the timing where it is, and of each other group
the mean and the largest over the lanes that the phase serves.
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

GROUPS = ("phase", "timing", "density", "queue", "near", "approaching", "longest_wait", "exits", "box")
LAYOUTS = ("lanes", "phases")
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
        layout: one of `LAYOUTS`.

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
        layout: str = "lanes",
    ) -> None:
        self._phases, self._timing = len(site.greens), timing
        self._groups = [group for group in GROUPS if group in groups]
        far, near = junction.places(detection_m, VEHICLE_M), junction.places(near_m, VEHICLE_M)
        exits = [max(1.0, lane.length_m / VEHICLE_M) for lane in site.exits]
        lanes = len(far)
        of_lanes = dict.fromkeys(GROUPS, lanes)
        size = of_lanes | {"phase": self._phases, "timing": 3, "exits": 2 * len(exits)}
        self.places = sum(far)
        whole = {
            "density": far,
            "queue": far,
            "near": near,
            "approaching": near,
            "longest_wait": [LONG_WAIT_S] * lanes,
            "exits": exits * 2,
            "box": [FULL_BOX] * lanes,
        }
        self._whole = np.concatenate([whole.get(group, np.ones(size[group])) for group in self._groups])
        ends = np.cumsum([size[group] for group in self._groups]).tolist()
        self._slices = {group: slice(end - size[group], end) for group, end in zip(self._groups, ends, strict=True)}
        self._served = [tuple(map(list, site.served(phase))) for phase in range(self._phases)]
        self._is_by_phase = layout == "phases"
        blocks = sum({"phase": 1, "timing": 3, "exits": 4}.get(group, 2) for group in self._groups)
        self.length = blocks * self._phases if self._is_by_phase else sum(size[group] for group in self._groups)

    def see(self, snapshot: Snapshot, seen: Readings) -> Vector:
        """The observation of a moment of which the detectors say `seen`."""
        parts = self._parts(snapshot, seen)
        amounts = np.concatenate([parts[group] for group in self._groups])
        values: npt.NDArray[np.float64] = (amounts / self._whole).clip(0.0, 1.0)
        if not self._is_by_phase:
            return values.astype(np.float32)
        shown = snapshot.phase if snapshot.following is None else snapshot.following
        shares = {group: values[place] for group, place in self._slices.items()}
        return np.concatenate([self._block(phase, shown, shares) for phase in range(self._phases)], dtype=np.float32)

    def _block(self, phase: int, shown: int, parts: dict[str, npt.NDArray[np.float64]]) -> list[float]:
        lanes, exits = self._served[phase]
        block: list[float] = []
        for group, values in parts.items():
            if group == "phase":
                block.append(values[phase])
            elif group == "timing":
                block += list(values if phase == shown else np.zeros(3))
            else:
                halves = values.reshape(2, -1)[:, exits] if group == "exits" else values[None, lanes]
                block += [statistic for half in halves for statistic in (half.mean(), half.max())]
        return block

    def _parts(self, snapshot: Snapshot, seen: Readings) -> dict[str, Sequence[float] | npt.NDArray[np.float64]]:
        """What there is to say of each group, before it is divided."""
        is_changing = snapshot.following is not None
        shown = snapshot.phase if snapshot.following is None else snapshot.following
        green_s = 0 if is_changing else snapshot.green_s
        may_end = green_s >= self._timing.min_green_s
        return {
            "phase": [float(phase == shown) for phase in range(self._phases)],
            "timing": [float(is_changing), green_s / self._timing.max_green_s, float(may_end)],
            "density": seen.vehicles,
            "queue": seen.halting,
            "near": seen.near,
            "approaching": seen.approaching,
            "longest_wait": seen.longest_wait_s,
            "exits": np.concatenate([seen.exit_vehicles, seen.exit_halting]),
            "box": seen.in_box,
        }
