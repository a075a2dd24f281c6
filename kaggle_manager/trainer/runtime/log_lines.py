"""What a trainer writes to standard output: events, for the manager or in words, and warnings.

A log that nobody takes must not end a training, so nothing here raises for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from kaggle_manager.errors import StorageError
from kaggle_manager.protocol.events import Event, format_event
from kaggle_manager.protocol.sentences import sentence

Emit = Callable[[Event], None]
"""Where a trainer's events go."""

_kept: dict[int, int] = {}
"""Of standard output and standard error (1 and 2) the session's own file descriptor, while it has one."""


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """Until the end of this, what is written here goes where it leads now.

    Whatever the user's code does to `sys.stdout` or to the file descriptor; in processes that are forked as well.
    """
    for number in (1, 2):
        with contextlib.suppress(OSError):  # it was closed from the beginning
            _kept[number] = os.dup(number)
    try:
        yield
    finally:
        while _kept:
            os.close(_kept.popitem()[1])


def emit_to_log(tag: str) -> Emit:
    """For a session: events as the manager finds them in the log; `tag` is the session's (`events.session_tag`)."""

    def emit(event: Event) -> None:
        _write(1, format_event(event, tag))

    return emit


def emit_in_words(event: Event) -> None:
    """For a training that its user watches: the sentences that the manager shows of a session."""
    if text := sentence(event):
        say(f"  {text}")


def say(text: str) -> None:
    """Print a line."""
    _write(1, f"{text}\n")


def warn(message: str) -> None:
    """Print something the user should know."""
    say(f"WARNING: {message}")


def complain(text: str) -> None:
    """Print what has ended the training, to standard error."""
    _write(2, f"{text}\n")


def pass_on(number: int, data: bytes) -> None:
    """Write what another process has printed as it is; to standard output or error (1 or 2)."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(_kept.get(number, number), data) :]


def _write(number: int, text: str) -> None:
    """With one call, so that nothing another process prints comes between: an unbuffered `print` makes two."""
    with contextlib.suppress(OSError, ValueError):
        if number in _kept:
            pass_on(number, text.encode("utf-8", "backslashreplace"))
        elif (stream := sys.stdout if number == 1 else sys.stderr) is not None:
            stream.write(text)
            stream.flush()


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
            warn(f"{self._what} could not be written, and the training continues without: {why}")
        self._told = True
        return True
