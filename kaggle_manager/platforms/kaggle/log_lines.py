"""Read a kernel's log: Kaggle's stored form, and the events of its live stream. Pure.

Promises: reads whatever there is of a log that was cut anywhere, in one pass; what cannot be understood is left out or
None, never an exception, for a log is a convenience. What a kernel printed enters here: a line is `printable`, and at
most `LONGEST_LINE` characters long.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.long_strings import MARK
from kaggle_manager.platforms.platform import LONGEST_LINE, LogLine

# Where an event begins: inside a string its quotation marks would be escaped. Then all of it up to its closing brace,
# or as much as there is.
_BEGIN = re.compile(r'\{\s*"(?:stream_name|time|data)"')
_BODY = re.compile(r'\{(?:[^{}"]++|"(?:[^"\\\n]++|\\[^\n])*+")*+')
# In characters; what is longer is none.
_LONGEST_BEGIN, _LONGEST_EVENT = 40, 4_000_000


def parse_log(text: str) -> list[LogLine]:
    """The lines of a stored log: a JSON array of events, of which either end or the middle may be missing."""
    found: list[LogLine] = []
    for part in MARK.split(text):
        events = [{"data": part}] if MARK.fullmatch(f"\n{part}\n") else stored_events([part])
        for event in events:
            found.extend(event_lines(event, len(found)))
    return found


def event_lines(event: Mapping[str, Any], first_index: int) -> list[LogLine]:
    """The lines of one event `{stream_name, time, data}`. An event may hold several lines, or one without its end."""
    data = str(event.get("data") or "")
    if not data:
        return []
    stream = "stderr" if event.get("stream_name") == "stderr" else "stdout"
    time_s = _number(event.get("time"))
    texts = data.removesuffix("\n").split("\n")
    return [LogLine(first_index + n, stream, time_s, one_line(text, LONGEST_LINE)) for n, text in enumerate(texts)]


def stored_events(pieces: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Every whole event in a stored log that comes in pieces; a text without any is taken line by line."""
    text, at, found = "", 0, False
    for piece in chain(pieces, [None]):
        if found or len(text) < _LONGEST_EVENT:  # of a text without events this is enough
            text, at = text[at:] + (piece or ""), 0
        while begin := _BEGIN.search(text, at):
            body = _BODY.match(text, begin.start())
            end = body.end() if body else begin.end()
            stopped_at = text[end : end + 1]
            line_end = text.find("\n", end) if stopped_at == '"' else -1
            if stopped_at == "}":
                at = end + 1
                if (event := _event(text[begin.start() : at])) is not None:
                    found = True
                    yield event
            elif stopped_at == "{" or line_end >= 0:
                at = max(end, line_end)  # broken; the next one may be whole
            elif piece is None or end - begin.start() > _LONGEST_EVENT:
                at = len(text)
            else:
                at = begin.start()  # not all of it is here
                break
        else:
            at = max(at, len(text) - _LONGEST_BEGIN) if found else at
    if not found:
        yield from ({"data": line} for line in text.split("\n") if line and not line.startswith(("{", "[", "null")))


def _event(text: str) -> Mapping[str, Any] | None:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _number(value: Any) -> float:
    """Seconds; 0 for anything that is none."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return 0.0
