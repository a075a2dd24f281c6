"""One function, called in another process where the system can fork, and in this one elsewhere.

Python runs one thread at a time: ten milliseconds of Python in a thread are taken from the training, in another process
they are not.

Promises: a call returns or raises what the function did; the process ends with the one that made it, even when that one
is killed, so it never writes beside a later session. Make it before there is anything to inherit: threads, a GPU,
environments, large arrays.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

import cloudpickle

from kaggle_manager.errors import RunError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1


class WorkerProcess(Generic[Argument, Result]):
    """Calls `function`, one call at a time, from any thread of the process that made it."""

    def __init__(self, function: Callable[[Argument], Result]) -> None:
        self._function = function
        self._pipe: Connection | None = None
        # A daemonic process may not have children.
        if sys.platform == "linux" and not multiprocessing.current_process().daemon:
            context = multiprocessing.get_context("fork")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._pipe, function, os.getpid()), name="checkpoint-writer", daemon=True
            )
            self._process.start()
            theirs.close()
            atexit.register(self.close)  # else the interpreter would wait for it for ever

    def __call__(self, argument: Argument) -> Result:
        """Call the function.

        Raises:
            RunError: the process is gone.
        """
        if self._pipe is None:
            return self._function(argument)
        try:
            self._pipe.send_bytes(cloudpickle.dumps(argument, protocol=pickle.HIGHEST_PROTOCOL))
            answer: Result | BaseException = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RunError(
                f"The process that writes checkpoints is gone ({type(error).__name__}); was it out of memory?",
                safe="the checkpoints written before still load.",
                next_step="start the same command again: it goes on from the newest checkpoint.",
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the process; a call under way is finished first."""
        if self._pipe is not None and not self._pipe.closed:
            atexit.unregister(self.close)
            self._pipe.close()
            self._process.join()


def _serve(
    pipe: Connection, not_ours: Connection, function: Callable[[Argument], Result], parent: int
) -> None:  # pragma: no cover - in the other process
    not_ours.close()
    # Whoever stops the session decides what is still saved; this process ends when its pipe does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that was in force
        return
    with contextlib.suppress(EOFError):
        while True:
            argument = pickle.loads(pipe.recv_bytes())
            try:
                answer: Result | BaseException = function(argument)
            except BaseException as error:
                answer = error
            sys.stdout.flush()
            pipe.send(answer)
