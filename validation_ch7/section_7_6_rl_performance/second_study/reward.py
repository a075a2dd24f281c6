"""What the agent is paid: minus the delay it will be judged by, or, for an ablation, what the first study paid.

`delay`: the time that all vehicles lost during the decision - in the network, inside the junction too, and while they
wait to enter it - divided by the decision's seconds and by the vehicles that fit on the approaches. Its sum over an
episode is the mean delay of the metrics but for a factor and for the last seconds of vehicles that leave.
"""

from __future__ import annotations

from collections.abc import Callable

from validation_ch7.section_7_6_rl_performance import reward as first_study
from validation_ch7.section_7_6_rl_performance.second_study.messages import Snapshot


def delay(snapshot: Snapshot, decision_s: int, places: float) -> float:
    """See above; 0 at best, -1 when as many vehicles stand as fit on the approaches."""
    return -(snapshot.delay_s + snapshot.outside * decision_s) / (decision_s * places)


def waiting(snapshot: Snapshot, decision_s: int, places: float) -> float:
    """The first study's: minus the accumulated waiting of the vehicles on the approaches, bounded."""
    return first_study.reward(float(snapshot.readings.waiting_s.sum()), places)


REWARDS: dict[str, Callable[[Snapshot, int, float], float]] = {"delay": delay, "waiting": waiting}
