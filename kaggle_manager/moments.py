"""Moments as the journal writes them (ISO 8601, UTC) and as decisions reckon with them (seconds since the epoch)."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(epoch_s: float) -> str:
    """`2026-11-22T04:05:06+00:00`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def epoch(text: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def for_people(epoch_s: float) -> str:
    """Date and time where the reader is, to the minute."""
    return datetime.fromtimestamp(epoch_s, UTC).astimezone().strftime("%a %d %b %Y %H:%M %Z")
