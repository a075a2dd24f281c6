"""Python's garbage collector, around what is large and lives as long as the process: torch is 300,000 objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile: imports make none, and each look takes in all that is there (a quarter of torch's
    import).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def settle() -> None:
    """Look at nothing again that is here now: a child shares its memory for longer, and the process ends in a second
    less. To be called where a process has imported what it needs, and made nothing yet.
    """
    gc.freeze()
