"""The week's accelerator hours: what was used, what is reserved, and whether one more session may start.

Pure: no clock, no disk. Times are Unix seconds. The week turns on Saturday 00:00 UTC. An hour on any GPU machine costs
an hour; the time of a session counts while it runs, and the rest of the longest session counts as reserved, whatever
limit it was pushed with. A session may start while hours remain, unless the sessions already running could use them
all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WEEK_S = 7 * 86400.0
_FIRST_SATURDAY = 2 * 86400.0  # 3 January 1970


@dataclass(frozen=True)
class Span:
    """One session: when it began, when it ended (None: it runs), and how long the longest may last."""

    began: float
    ended: float | None
    longest_s: float


@dataclass(frozen=True)
class Statistics:
    """One accelerator's week, in seconds."""

    used_s: float
    reserved_s: float
    allowed_s: float


def week_of(now: float) -> tuple[float, float]:
    """First and last moment of the quota week that contains `now`."""
    start = now - (now - _FIRST_SATURDAY) % WEEK_S
    return start, start + WEEK_S


def statistics(sessions: Iterable[Span], now: float, allowed_s: float) -> Statistics:
    """What `sessions` used of this week and could still use."""
    start, _ = week_of(now)
    used = reserved = 0.0
    for session in sessions:
        ended = now if session.ended is None else session.ended
        used += max(0.0, ended - max(session.began, start))
        if session.ended is None:
            reserved += max(0.0, session.began + session.longest_s - now)
    return Statistics(used, reserved, allowed_s)


def refusal(accelerator: str, week: Statistics) -> str | None:
    """Why no session of `accelerator` may start now, in Kaggle's words; None when it may."""
    hours = week.allowed_s / 3600
    if week.used_s >= week.allowed_s:
        return f"Maximum weekly {accelerator} quota of {hours:.2f} hours reached."
    if week.used_s + week.reserved_s >= week.allowed_s:
        return (
            "Session cannot start because currently running sessions are projected to exceed "
            f"maximum weekly {accelerator} quota of {hours:.2f} hours."
        )
    return None
