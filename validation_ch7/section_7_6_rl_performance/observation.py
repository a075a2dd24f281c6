"""What the agent sees: a vector of floats in [0, 1].

    [ one-hot of the green phase | 1 if the minimum green has passed | density of each lane | queue of each lane ]

For `P` green phases and `L` incoming lanes the shape is `(P + 1 + 2 L,)`. Density and queue are vehicles present, and
vehicles standing, within the detection distance, each divided by the number of vehicles that fit there and cut off at
1 (shorter vehicles or gaps than `VEHICLE_M` could exceed it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from validation_ch7.section_7_6_rl_performance.intersection import Lane
from validation_ch7.section_7_6_rl_performance.simulation import Snapshot

VEHICLE_M = 7.5
"""Room one standing vehicle takes: SUMO's default passenger car, 5 m, and its minimum gap, 2.5 m."""


def capacities(lanes: Sequence[Lane], detection_m: float) -> npt.NDArray[np.float32]:
    """Vehicles that fit on each lane within the detection distance, shape `(L,)`, at least 1."""
    return np.array([max(1.0, min(lane.length_m, detection_m) / VEHICLE_M) for lane in lanes], dtype=np.float32)


def observe(
    snapshot: Snapshot, phase: int, phases: int, *, may_switch: bool, capacity: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The observation of `snapshot` while green phase number `phase` of `phases` is shown."""
    signal = np.zeros(phases + 1, dtype=np.float32)
    signal[phase] = 1.0
    signal[phases] = may_switch
    density = np.asarray(snapshot.vehicles, dtype=np.float32) / capacity
    queue = np.asarray(snapshot.halting, dtype=np.float32) / capacity
    return np.concatenate([signal, density, queue]).clip(0.0, 1.0, dtype=np.float32)
