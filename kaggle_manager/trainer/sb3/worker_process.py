"""One function, called in another process where the system can fork, and in this one elsewhere.

Python runs one thread at a time: ten milliseconds of Python in a thread are taken from the training, in another process
they are not. So this process starts a call and continues; it has no thread for it. Arguments travel through shared
memory: starting a call costs little more than one copy of their arrays, and waits for nothing.

Promises: one call at a time; a call's error is raised here at the next look or join, never lost; the process ends with
the one that made it, even when that one is killed, so it never writes beside a later session. Make it before there is
anything to inherit: threads, a GPU, environments, large arrays.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ClassVar, Generic, TypeVar

from kaggle_manager.errors import RunError
from kaggle_manager.system import garbage
from kaggle_manager.trainer.runtime.session_clock import outlive_stop_signals
from kaggle_manager.trainer.sb3 import host_pickle
from kaggle_manager.trainer.sb3.shared_memory import SharedMemory

Argument = TypeVar("Argument")
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1

_NICENESS = 10
"""Else it would take the training's core each time a sync ends, and its caches with it: measured, several times its own
stall on a busy machine."""


class WorkerProcess(Generic[Argument, Result]):
    """Calls `function`, one call at a time, for one thread of the process that made it.

    Arguments are pickled, tensors of other devices as tensors of the CPU.

    Args:
        function: what is called.
        does: what the process is for, in words: "the process that `does`".
        niceness: of the process.
        patience_s: how long the end of this object waits for a call under way, which can see that by `is_wanted`; by
            default as long as it takes.
    """

    _callers_ends: ClassVar[set[Connection]] = set()
    """Of all such objects of this process: another one's process that held one open would hide its end."""

    def __init__(
        self,
        function: Callable[[Argument], Result],
        does: str = "writes checkpoints",
        niceness: int = _NICENESS,
        patience_s: float | None = None,
    ) -> None:
        self._function = function
        self._name = f"the process that {does}"
        self._patience_s = patience_s
        self._pipe: Connection | None = None
        self._under_way = False
        self._result: Result | None = None
        self._error: Exception | None = None
        # A daemonic process may not have children.
        if sys.platform == "linux" and not multiprocessing.current_process().daemon:
            context = multiprocessing.get_context("fork")
            self._memory = SharedMemory()
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve,
                args=(theirs, self._callers_ends, self._memory, function, os.getpid(), self._name, niceness),
                name=does,
                daemon=True,
            )
            self._callers_ends.add(self._pipe)
            garbage.settle()
            self._process.start()
            theirs.close()
            self._answer = select.poll()
            self._answer.register(self._pipe, select.POLLIN)
            atexit.register(self.close)  # else the interpreter would wait for it for ever

    @property
    def is_apart(self) -> bool:
        """Whether calls happen in another process."""
        return self._pipe is not None

    def start(self, argument: Argument) -> None:
        """Begin a call, with `argument` as it is now. The call before must have been joined.

        Raises:
            RunError: the process is gone.
        """
        assert not self._under_way
        self._result = None
        if self._pipe is None:
            try:
                self._result = self._function(argument)
            except Exception as error:
                self._error = error
            return
        buffers: list[pickle.PickleBuffer] = []
        text = host_pickle.dumps(argument, buffers.append)
        lengths = self._memory.put([text, *(buffer.raw() for buffer in buffers)])
        try:
            self._pipe.send(lengths)
        except OSError as error:
            raise self._gone(error) from error
        self._under_way = True

    def look(self, wait_s: float = 0.0) -> Result | None:
        """Return the result of a call that has ended, once; None while there is none, for so many seconds.

        Raises:
            RunError: the process is gone.
            Exception: what the function raised.
        """
        if self._under_way and not self._answer.poll(1000 * wait_s):
            return None
        return self.join()

    def join(self) -> Result | None:
        """Wait for the call under way; return its result, once.

        Raises:
            RunError: the process is gone.
            Exception: what the function raised.
        """
        if self._under_way:
            assert self._pipe is not None
            self._under_way = False
            try:
                answer: Result | BaseException = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise self._gone(error) from error
            if isinstance(answer, BaseException):
                raise answer
            return answer
        if self._error is not None:
            failed, self._error = self._error, None
            raise failed
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        """End the process; a call under way is finished first, if it is within the patience."""
        if self._pipe is not None and not self._pipe.closed:
            atexit.unregister(self.close)
            self._callers_ends.discard(self._pipe)
            self._pipe.close()
            self._process.join(self._patience_s)
            self._process.kill()
            self._process.join()
            self._memory.close()

    def _gone(self, error: Exception) -> RunError:
        return RunError(
            f"{self._name[0].upper()}{self._name[1:]} is gone ({type(error).__name__}); was it out of memory?",
            safe="the checkpoints written before still load.",
            next_step="start the same command again: it continues from the newest checkpoint.",
        )


def is_wanted() -> bool:
    """In a call: whether the caller still waits for it."""
    return _caller is None or not _caller.poll(0)


_caller: select.poll | None = None  # of this process, if it is one that serves


def that_travels(error: BaseException, where: str) -> BaseException:
    """An error of another process with its traceback, which a pickle leaves behind; in words where it has no pickle."""
    place = "".join(traceback.format_exception(error))
    error.add_note(f"In {where}:\n{place}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = RunError(
            f"{where[0].upper()}{where[1:]} failed: {type(error).__name__}: {error}",
            safe="the checkpoints written before still load.",
        )
        told.add_note(place)
        return told
    return error


def _serve(
    pipe: Connection,
    not_ours: set[Connection],
    memory: SharedMemory,
    function: Callable[[Argument], Result],
    parent: int,
    name: str,
    niceness: int,
) -> None:  # pragma: no cover - in the other process
    global _caller
    for end in not_ours:
        end.close()
    # The process that stops the session decides what is still saved; this process ends when its pipe does.
    outlive_stop_signals()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that was in force
        return
    os.nice(niceness)
    _caller = select.poll()
    _caller.register(pipe, select.POLLIN)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            text, *buffers = memory.get(pipe.recv())
            try:
                answer: Result | BaseException = function(pickle.loads(text, buffers=buffers))
            except BaseException as error:
                answer = that_travels(error, name)
            with contextlib.suppress(OSError, ValueError, AttributeError):  # the user's code may have closed it
                sys.stdout.flush()
            pipe.send(answer)
