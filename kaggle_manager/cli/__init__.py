"""`kaggle-manager` (short `km`): the command line. One module a group of commands; `common` is what they share.

Here is only what a console script calls: everything else is imported inside it, so that Ctrl-C meanwhile ends in a line
and not in a traceback. SIGTERM (of `timeout`, a shutdown, a job scheduler) ends a command as Ctrl-C does, with 143.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console scripts; exits with the code of the command."""
    with _sigterm_as_ctrl_c() as came:
        try:
            from kaggle_manager.cli.commands import call

            code = call(arguments)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
    sys.exit(TERMINATED if came and code == INTERRUPTED else code)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[list[int]]:
    """The first SIGTERM is a KeyboardInterrupt, and in the list; another one ends the process. Not on Windows."""
    came: list[int] = []
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a worker that was forked
            os.kill(os.getpid(), number)
        came.append(number)
        raise KeyboardInterrupt

    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
