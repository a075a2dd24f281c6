"""The sources by which an experiment is known, kept in each latest checkpoint: what has changed is shown, not hashed.

    fingerprint of the identity -> file -> digest of its meaning, and its text

Promises: a change names its files and shows a bounded number of their lines, printable; of a file that is no text, or
too large to be kept, the digest is there, so that its change is named as well.
Never does: decide anything: fingerprints do, in `compatibility`. What cannot be read is as if nothing had been kept.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping

from kaggle_manager.errors import one_line

MOST_KEPT = 256_000
"""Bytes of all files together; the small ones first. Larger files are data more often than code."""
MOST_BYTES = 4 * MOST_KEPT
MOST_LINES, LONGEST_LINE = 40, 160
_AROUND = 1


Source = tuple[str, str | None]
"""One file: digest of its meaning, and its text; None where it is not kept, or is no text."""
Sources = Mapping[str, Mapping[str, Source]]
"""By the name of the fingerprint in the identity, and of the file."""


def to_bytes(sources: Sources) -> bytes:
    """The content of a checkpoint's `.sources` file."""
    texts: dict[str, str] = {}
    room = MOST_KEPT
    every = {name: text for files in sources.values() for name, (_, text) in files.items() if text is not None}
    for name, text in sorted(every.items(), key=lambda item: len(item[1])):
        if (room := room - len(text.encode("utf-8", "replace"))) >= 0:
            texts[name] = text
    digests = {field: {name: digest for name, (digest, _) in files.items()} for field, files in sources.items()}
    return (json.dumps({"digests": digests, "texts": texts}, indent=1, sort_keys=True) + "\n").encode()


def from_bytes(data: bytes) -> Sources:
    """What `to_bytes` was given, texts that were too large apart; {} for anything else."""
    try:
        body = json.loads(data) if len(data) <= MOST_BYTES else {}
        digests, texts = body["digests"], body["texts"]
        return {
            str(field): {str(name): (str(digest), _text(texts.get(name))) for name, digest in files.items()}
            for field, files in digests.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def changed(field: str, then: Sources, now: Sources) -> list[str]:
    """The files of a fingerprint that are not the same; [] as well when one side does not say what it is made of."""
    if field not in then or field not in now:
        return []
    old, new = then[field], now[field]
    return sorted(name for name in {*old, *new} if old.get(name, ("",))[0] != new.get(name, ("",))[0])


def difference(field: str, name: str, then: Sources, now: Sources) -> Iterator[str]:
    """How a file has changed, in lines: a unified diff, or a sentence where there is none. Not bounded."""
    old, new = then[field].get(name), now[field].get(name)
    if old is None or new is None:
        yield f"{name} {'is not named any more' if new is None else 'was not named then'}"
    elif old[1] is None or new[1] is None:
        yield f"{name}: its old content is not kept, or is no text"
    else:
        texts = old[1].splitlines(), new[1].splitlines()
        for line in difflib.unified_diff(*texts, f"{name} (trained)", f"{name} (now)", lineterm="", n=_AROUND):
            yield one_line(line, LONGEST_LINE)


def bounded(lines: list[str]) -> list[str]:
    """At most `MOST_LINES` of them, the last of which says how many are missing."""
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], f"... and {len(lines) - MOST_LINES + 1:,} more lines"]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
