"""What a trainer writes to standard output: events, for the manager or in words, and warnings."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kaggle_manager.errors import StorageError
from kaggle_manager.protocol.events import Event, format_event
from kaggle_manager.protocol.sentences import sentence

Emit = Callable[[Event], None]
"""Where a trainer's events go."""


def emit_to_log(tag: str) -> Emit:
    """For a session: events as the manager finds them in the log; `tag` is the session's (`events.session_tag`)."""

    def emit(event: Event) -> None:
        # One call, so that nothing another thread or process prints comes between its parts.
        sys.stdout.write(format_event(event, tag))
        sys.stdout.flush()

    return emit


def emit_in_words(event: Event) -> None:
    """For a training that its user watches: the sentences that the manager shows of a session."""
    if text := sentence(event):
        say(f"  {text}")


def say(text: str) -> None:
    """Print a line, with one call: an unbuffered `print` makes two, and another process may print between them."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """Print something the user should know."""
    say(f"WARNING: {message}")


class Caution:
    """Around what only tells of a training and ends none: an error of the disk is a warning, once until it works again.

    Args:
        what: completes "... could not be written".
    """

    def __init__(self, what: str) -> None:
        self._what, self._told = what, False

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            self._told = False
        if not isinstance(error, OSError | StorageError):
            return False
        if not self._told:
            why = error.message if isinstance(error, StorageError) else error
            warn(f"{self._what} could not be written, and the training goes on without: {why}")
        self._told = True
        return True
