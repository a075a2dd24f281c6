"""What an episode was worth, measured on every trip of its demand - finished, unfinished and never inserted alike.

Delay is SUMO's time loss (time lost by driving below the desired speed) plus departure delay (time spent waiting
to enter the network), the measure of the RESCO benchmark. Promises: no vehicle is dropped from a mean or a count;
`impossible` says which physical bound a result breaks, and a result that breaks one is never to be reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from validation_ch7.section_7_6_rl_performance.simulation import Snapshot, Trip


@dataclass(frozen=True)
class EpisodeMetrics:
    """One episode; seconds per trip, vehicles, halting vehicles at the ends of decisions.

    `demand` vehicles were due in the window: `completed` left the network, `unfinished` were still under way at the
    end and `never_inserted` found no room to enter.
    """

    demand: int
    completed: int
    unfinished: int
    never_inserted: int
    mean_delay_s: float
    mean_time_loss_s: float
    mean_depart_delay_s: float
    mean_waiting_s: float
    mean_stops: float
    mean_queue: float
    max_queue: int


def summarise(trips: Sequence[Trip], snapshots: Sequence[Snapshot]) -> EpisodeMetrics:
    """The metrics of an episode, from its trips and the snapshots at the end of each decision."""
    queues = [sum(snapshot.halting) for snapshot in snapshots]
    return EpisodeMetrics(
        demand=len(trips),
        completed=sum(trip.arrived for trip in trips),
        unfinished=sum(trip.inserted and not trip.arrived for trip in trips),
        never_inserted=sum(not trip.inserted for trip in trips),
        mean_delay_s=_mean([trip.time_loss_s + trip.depart_delay_s for trip in trips]),
        mean_time_loss_s=_mean([trip.time_loss_s for trip in trips]),
        mean_depart_delay_s=_mean([trip.depart_delay_s for trip in trips]),
        mean_waiting_s=_mean([trip.waiting_s for trip in trips]),
        mean_stops=_mean([trip.stops for trip in trips]),
        mean_queue=_mean(queues),
        max_queue=max(queues, default=0),
    )


def impossible(metrics: EpisodeMetrics, trips: Sequence[Trip], limit_m_s: float) -> list[str]:
    """The physical bounds this episode breaks, in words; empty when it breaks none.

    Args:
        metrics: the episode's metrics.
        trips: its trips.
        limit_m_s: the highest speed limit of the network. A driver may exceed it by its own `speed_factor`.
    """
    broken = []
    for trip in trips:
        if min(trip.time_loss_s, trip.depart_delay_s, trip.waiting_s) < 0:
            broken.append(f"vehicle {trip.id} has a negative delay")
        if trip.waiting_s > trip.duration_s:
            broken.append(f"vehicle {trip.id} waited longer than it travelled")
        if trip.route_m > trip.duration_s * limit_m_s * max(1.0, trip.speed_factor) + 1e-6:
            broken.append(f"vehicle {trip.id} was faster than it may drive")
    if metrics.completed + metrics.unfinished + metrics.never_inserted != metrics.demand:
        broken.append("completed, unfinished and never inserted vehicles do not add up to the demand")
    return broken


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
