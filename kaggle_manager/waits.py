"""Waits, as the journal's events tell them: until when nothing is tried, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# After one of these, an earlier wait is over, whatever time it named.
ENDING = ("continued", "pushed", "adopted")


def newest_wait(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest wait since the last push, or since a person asked to go on: `until`, `why`, `cause`.

    Its time may be over; None when there is none.
    """
    for event in reversed(events):
        if event["kind"] in ENDING:
            return None
        if event["kind"] == "waits":
            detail: Mapping[str, Any] = event["detail"]
            return detail
    return None


def in_a_row(events: Sequence[Mapping[str, Any]], cause: str) -> int:
    """How many waits for `cause` there were since the run last went on."""
    count = 0
    for event in reversed(events):
        if event["kind"] in (*ENDING, "closed"):
            break
        count += event["kind"] == "waits" and event["detail"]["cause"] == cause
    return count
