"""Read a kernel's log: Kaggle's stored form, and the events of its live stream. Pure.

Promises: reads whatever there is of a log that was cut off at either end; what cannot be understood is left out or
None, never an exception, for a log is a convenience.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class LogLine:
    """One line a kernel printed.

    Attributes:
        index: its place in the log, from 0.
        stream: "stdout" or "stderr", as Kaggle names it.
        time_s: seconds since the session started, as Kaggle counts them.
        text: without its line end.
    """

    index: int
    stream: str
    time_s: float
    text: str


def parse_log(text: str) -> list[LogLine]:
    """The lines of a stored log: a JSON array of events, of which either end may be missing."""
    lines: list[LogLine] = []
    for event in _events(text):
        lines.extend(event_lines(event, len(lines)))
    return lines


def event_lines(event: Mapping[str, Any], first_index: int) -> list[LogLine]:
    """The lines of one event `{stream_name, time, data}`. An event may hold several lines, or one without its end."""
    data = str(event.get("data") or "")
    if not data:
        return []
    stream = str(event.get("stream_name") or "stdout")
    time_s = _number(event.get("time"))
    texts = data.removesuffix("\n").split("\n")
    return [LogLine(first_index + n, stream, time_s, line.rstrip("\r")) for n, line in enumerate(texts)]


def _events(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        yield from _salvage(text)
        return
    for event in whole if isinstance(whole, list) else [whole]:
        if isinstance(event, dict):
            yield event


def _salvage(text: str) -> Iterator[Mapping[str, Any]]:
    """Every whole event in a log that was cut; plain text is taken line by line."""
    at, found = 0, False
    while (at := text.find('{"', at)) >= 0:
        try:
            event, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(event, dict) and "data" in event:
            found = True
            yield event
    if not found:
        yield from ({"data": line} for line in text.splitlines() if line and not line.startswith(("{", "[")))


def _number(value: Any) -> float:
    """Seconds; 0 for anything that is none."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return 0.0
