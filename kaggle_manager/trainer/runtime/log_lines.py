"""Lines on standard output: for machines `KM_<KIND> {json}`, for people plain text.

In a kernel the lines are for the manager, which reads them from the log. Where nobody but a person reads along,
`spoken` puts them in words.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Words = Callable[[str, Mapping[str, Any]], str]
"""Of a line's kind and values, a sentence; "" when a person needs none."""

_words: Words | None = None


@contextlib.contextmanager
def spoken(words: Words) -> Iterator[None]:
    """Inside, `say` prints words."""
    global _words
    before, _words = _words, words
    try:
        yield
    finally:
        _words = before


def say(kind: str, **values: Any) -> None:
    """Print one line for machines, or in words; a number that is not finite becomes null."""
    finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
    if _words is None:
        print(f"{kind} {json.dumps(finite)}", flush=True)
    elif sentence := _words(kind, finite):
        print(sentence, flush=True)


def warn(message: str) -> None:
    """Print something a person should know."""
    print(f"WARNING: {message}", flush=True)
