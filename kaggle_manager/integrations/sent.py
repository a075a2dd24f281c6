"""What came of telling a tracker of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """What one call has sent to a tracker.

    Attributes:
        tracked_as: the id of the run there.
        where: its address there, or the folder it lies in; "" where neither is known.
        points: how many points of curves were sent.
        is_new: whether anything was.
    """

    tracked_as: str
    where: str
    points: int
    is_new: bool
