"""Formats of sizes, durations, counts and dates. Pure; standard library only, as it travels into sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def size(count: float) -> str:
    """A number of bytes: `999 B`, `1.5 kB`, `2.0 GB`; a kB is 1000 bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    """A duration in seconds: `42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def count(number: int, thing: str, things: str = "") -> str:
    """`1 episode`, `2 episodes`, `1,200 steps`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def training(scenario: str, seed: int | None, *, quick: bool) -> str:
    """What a run is called beside others: `balance`, `balance, seed 3 (quick)`; no seed is the scenario's own."""
    return scenario + ("" if seed is None else f", seed {seed}") + " (quick)" * quick


def number(value: Any, form: str) -> str:
    """`value` in a format such as ".3g"; a log may hold anything."""
    try:
        return format(float(value), form)
    except (TypeError, ValueError, OverflowError):
        return "not a number"


def iso(epoch_s: float) -> str:
    """`2026-11-22T04:05:06+00:00`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def epoch(text: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def for_people(epoch_s: float) -> str:
    """Date and time in the local time zone, to the minute."""
    return datetime.fromtimestamp(epoch_s, UTC).astimezone().strftime("%a %d %b %Y %H:%M %Z")
