"""A line of `metrics.jsonl`, in which a script tells how its training goes. Pure; the only reader of such a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

FILE = "metrics.jsonl"
LONGEST_LINE = 10_000


@dataclass(frozen=True)
class Metric:
    """One value at one step."""

    step: int
    name: str
    value: float


def parse_metric(line: bytes | str) -> Metric | None:
    """`{"step": 20, "name": "loss", "value": 0.5}`; None for any other line. A value may be infinite, or NaN."""
    try:
        said: Any = json.loads(line) if len(line) <= LONGEST_LINE else None
        step, name, value = said["step"], said["name"], said["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(step) is not int or not 0 <= step < 2**53 or not isinstance(name, str) or not 0 < len(name) <= 200:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return Metric(step, name, float(value))
    except OverflowError:
        return None
