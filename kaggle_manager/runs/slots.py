"""Who starts the next session where an account runs a limited number at once. Pure: no input, output or clock.

Two rules. Of one campaign, those that have come least far, by share of their target, start first. Between campaigns,
sweeps and single runs of one journal there is a line: a run that finds no room stands in it, those that come later
leave it the room it waits for, and a started session gives the place up. So a run whose session has ended stands behind
those that waited meanwhile, and nobody waits longer than one session of each run before it. A run that looks no more
loses its place. What the account runs elsewhere takes room as well, and is counted where the platform shows it.

Moments are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# So long a run keeps its place after it has looked for room: a schedule may look once an hour.
STANDS_S = 65 * 60.0


@dataclass(frozen=True)
class Place:
    """Where a run stands in the line: since when, and when it last looked for room."""

    run_id: str
    since: float
    looked_at: float

    def is_kept(self, now: float) -> bool:
        """Whether it still waits. A clock that was ahead when it looked, and is right again, ends it."""
        return 0 <= now - self.looked_at <= STANDS_S


@dataclass(frozen=True)
class Candidate:
    """A run without a live session, as its campaign sees it.

    Attributes:
        share: of its target that is done.
        not_before: nothing is tried before this time; 0 for no such wait.
        in_line: it waits for room.
    """

    share: float
    not_before: float = 0.0
    in_line: bool = False


def place_of(run_id: str, known: Place | None, now: float) -> Place:
    """Where a run stands that looks for room now: where it stood, or at the end."""
    since = known.since if known is not None and known.is_kept(now) else now
    return Place(run_id, since, now)


def ahead_of(own: Place, line: Iterable[Place]) -> int:
    """How many others stand before a run that looks for room."""
    return sum(
        (other.since, other.run_id) < (own.since, own.run_id)
        for other in line
        if other.run_id != own.run_id and other.is_kept(own.looked_at)
    )


def who_starts(candidates: Sequence[Candidate], slots: int, now: float) -> list[int]:
    """Which of a campaign's runs try to start a session, by their place in `candidates`, the first to try first.

    Those that are in line keep what they wait for: another member, that would stand behind them, does not take it.

    Args:
        candidates: every member that is not over and has no live session.
        slots: how many sessions the campaign may have besides those that are live.
    """
    ready = [number for number, each in enumerate(candidates) if each.not_before <= now]
    kept = sum(each.in_line and each.not_before > now for each in candidates)
    ready.sort(key=lambda number: (not candidates[number].in_line, candidates[number].share))
    return ready[: max(0, slots - kept)]
