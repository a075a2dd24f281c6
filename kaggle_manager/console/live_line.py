"""The text of the live line: what is going on, how far it is, for how long. Pure; `Reporter` has it drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kaggle_manager.console.formatting import duration
from kaggle_manager.errors import one_line

# Drawings a second: as often as the time on it changes, for 5 CPU-seconds in 12 h (scripts/benchmarks/watch_cost.py).
FRAMES_PER_S = 1
_BAR_CELLS = 12


class Glyphs(NamedTuple):
    """The characters of spinner and bar."""

    spinner: str
    full: str
    empty: str
    between: str

    @classmethod
    def of(cls, *, ascii_only: bool) -> Glyphs:
        """Those that a console can show."""
        return cls("|/-\\", "#", "-", " | ") if ascii_only else cls("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "━", "─", " · ")


@dataclass(frozen=True)
class Activity:
    """What is going on.

    Attributes:
        phase: such as "waiting in the queue".
        since: when it began, on the reporter's clock.
        detail: the newest about it; stands in place of the phase.
        share: how much of it is done, 0 to 1; None when unknown.
        footer: what is worth seeing in every phase, such as the quota.
    """

    phase: str
    since: float
    detail: str = ""
    share: float | None = None
    footer: str = ""


def line_of(activity: Activity, now: float, glyphs: Glyphs) -> str:
    """The live line at `now`, without control characters; a narrow terminal shows its beginning."""
    lasted = now - activity.since
    bar = "" if activity.share is None else f"{_bar(activity.share, glyphs)} "
    parts = [duration(lasted), f"{bar}{activity.detail or activity.phase}", activity.footer]
    text = glyphs.between.join(part for part in parts if part)
    spinner = glyphs.spinner[int(lasted * FRAMES_PER_S) % len(glyphs.spinner)]
    return one_line(f"{spinner} {text}")


def _bar(share: float, glyphs: Glyphs) -> str:
    full = int(min(1.0, max(0.0, share)) * _BAR_CELLS)
    return glyphs.full * full + glyphs.empty * (_BAR_CELLS - full)
