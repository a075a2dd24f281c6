"""What the agent is paid: minus the waiting of the vehicles it can detect.

The reward of a decision is minus the sum, over vehicles within the detection distance, of the seconds since each first
stood on its approach, divided by the number of vehicles that fit there; never below `WORST`. This is the normalised
waiting of the RESCO benchmark (Ault & Sharon, NeurIPS 2021: 224 = 8 lanes of 28 vehicles), with the divisor taken from
the intersection at hand. Dimension: seconds per place; 0 is best.
"""

from __future__ import annotations

WORST = -4.0
"""RESCO's bound: one jam must not drown everything else the agent has learnt."""


def reward(waiting_s: float, places: float) -> float:
    """The reward for `waiting_s` seconds of waiting on approaches with room for `places` vehicles."""
    return max(WORST, -waiting_s / places)
