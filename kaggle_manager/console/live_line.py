"""The text of the live line: what is going on, how far it is, for how long. Pure; `Reporter` has it drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kaggle_manager.errors import one_line
from kaggle_manager.system.formatting import duration

# Drawings a second: as often as the time on it changes, for 5 CPU-seconds in 12 h (scripts/benchmarks/watch_cost.py).
FRAMES_PER_S = 1
# Between the parts of a detail, the most important first: a narrow terminal shows those that fit.
SEPARATOR = " · "
_BAR_CELLS = 12
# The bar is drawn where these parts fit beside it: how far, and how long still.
_BEFORE_BAR = 2


class Glyphs(NamedTuple):
    """The characters of spinner and bar."""

    spinner: str
    full: str
    empty: str
    between: str

    @classmethod
    def of(cls, *, ascii_only: bool) -> Glyphs:
        """Those that a console can show."""
        return cls("|/-\\", "#", "-", " | ") if ascii_only else cls("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "━", "─", SEPARATOR)


@dataclass(frozen=True)
class Activity:
    """What is going on.

    Attributes:
        phase: such as "waiting in the queue".
        since: when it began, on the reporter's clock.
        detail: the newest about it, in parts with `SEPARATOR` between them; stands in place of the phase.
        share: how much of it is done, 0 to 1; None when unknown.
        footer: what is worth seeing in every phase, such as the quota.
    """

    phase: str
    since: float
    detail: str = ""
    share: float | None = None
    footer: str = ""


def line_of(activity: Activity, now: float, glyphs: Glyphs, width: int) -> str:
    """The live line at `now`, without control characters: as many of its parts, in their order, as fit in `width`."""
    lasted = now - activity.since
    spinner = glyphs.spinner[int(lasted * FRAMES_PER_S) % len(glyphs.spinner)]
    line = f"{spinner} {duration(lasted)}"
    parts = [*one_line(activity.detail or activity.phase).split(SEPARATOR), one_line(activity.footer)]
    if activity.share is not None:
        with_bar = f"{_bar(activity.share, glyphs)} {parts[0]}"
        if len(glyphs.between.join([line, with_bar, *parts[1:_BEFORE_BAR]])) <= width:
            parts[0] = with_bar
    for number, part in enumerate(filter(None, parts)):
        if number and len(line) + len(glyphs.between) + len(part) > width:
            break
        line += glyphs.between + part
    return line


def _bar(share: float, glyphs: Glyphs) -> str:
    full = int(min(1.0, max(0.0, share)) * _BAR_CELLS)
    return glyphs.full * full + glyphs.empty * (_BAR_CELLS - full)
