"""Lanes: the runs that share one session. Each has a folder of its own in the outputs, and its lines of the log.

`trainer/entry.py` repeats what it needs of this.
"""

from __future__ import annotations

import re

NAME = r"lane_[1-9]\d*"
_LINE = re.compile(rf"({NAME})\| ")


def lane_name(number: int) -> str:
    """Of the lane with this number, from 1: what a launch order calls it, and its folder in the outputs."""
    return f"lane_{number}"


def line_of(lane: str, line: str) -> str | None:
    """A line of the session's log as `lane` shows it; None for a line of another lane.

    Args:
        lane: its name; "" for a session that one run has for itself.
    """
    if not lane or not (found := _LINE.match(line)):
        return line
    return line[found.end() :] if found[1] == lane else None
