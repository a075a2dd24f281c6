"""What the agent is paid: minus the waiting of the vehicles it can detect.

With `x` the sum, over vehicles within the detection distance, of the seconds since each first stood on its approach,
divided by the number of vehicles that fit there, a decision earns `-x / (1 + x / WORST)`: `-x` in light traffic,
ever closer to `-WORST` in a jam, 0 at best. Dimension: seconds per place.

The normalised waiting is that of the RESCO benchmark (Ault & Sharon, NeurIPS 2021: 224 = 8 lanes of 28 vehicles), with
the divisor taken from the intersection at hand. RESCO cuts it off at 4; here 4 is approached and never reached, because
under the cut-off four of five random decisions earn the same and an agent cannot tell a bad state from a worse one.
"""

from __future__ import annotations

WORST = 4.0
"""RESCO's bound: one jam must not drown everything else the agent has learnt."""


def reward(waiting_s: float, places: float) -> float:
    """The reward, in (-WORST, 0], for `waiting_s` seconds of waiting on approaches with room for `places` vehicles."""
    waiting_per_place = waiting_s / places
    return -waiting_per_place / (1.0 + waiting_per_place / WORST)
