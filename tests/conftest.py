"""What holds for every test.

Default signals for what it starts, however pytest was started; no bound on speed; every command that a message names
meanwhile is one that the command line takes; and every database that it opens is closed.
"""

from __future__ import annotations

import functools
import gc
import shlex
import signal
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from command_parser import parsed
from hypothesis import HealthCheck, settings

from kaggle_manager import errors
from kaggle_manager.system import command_line
from kaggle_manager.trainer.sb3 import determinism


def hand_down_default_signals() -> None:
    """Give what this process starts the default signals where it ignores them itself.

    `nohup` ignores SIGHUP and a shell's `&` SIGINT and SIGQUIT, and a program inherits what its parent ignores, so a
    test that sends one would wait for ever. A handler that does nothing goes on ignoring here and ends at an exec.
    """
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has half of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


determinism.pin()  # before a test loads NumPy, which reads it once
hand_down_default_signals()  # in each process of pytest-xdist
# By default an example may take 200 ms of wall clock, which a machine with other work does not always grant.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class _Connection(sqlite3.Connection):
    """Says where it was opened when nobody closed it, as Python does from 3.13 on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        opened = "".join(traceback.format_stack(limit=8)[:-1])
        super().__init__(*arguments, **options)
        _open[id(self)] = opened

    def close(self) -> None:
        _open.pop(id(self), None)
        super().close()

    def __del__(self) -> None:
        if opened := _open.pop(id(self), ""):
            _forgotten.append(opened)


_open: dict[int, str] = {}
_forgotten: list[str] = []
sqlite3.connect = functools.partial(sqlite3.connect, factory=_Connection)


@pytest.fixture(autouse=True)
def every_database_is_closed() -> Iterator[None]:
    """One that nobody holds any more was to be closed; those of a fixture of several tests are held."""
    before = set(_open)
    yield
    if set(_open) - before:
        gc.collect()  # a connection is in a circle with its own cache of statements
    forgotten = _forgotten.copy()
    _forgotten.clear()
    assert not forgotten, "opened here, and never closed:\n" + "\n".join(forgotten)


_named: set[str] = set()
_advice: set[str] = set()
_command, _init = command_line.command, errors.KaggleManagerError.__init__


@functools.wraps(_command)
def _noted(*words: object, **options: object) -> str:
    line = _command(*words, **options)  # type: ignore[arg-type]
    _named.add(line)
    return line


def _noting(self: errors.KaggleManagerError, message: str, *, safe: str = "", next_step: str = "") -> None:
    _init(self, message, safe=safe, next_step=next_step)
    _advice.add(next_step)


command_line.command, errors.KaggleManagerError.__init__ = _noted, _noting  # type: ignore[method-assign]


@functools.cache
def _check(line: str) -> None:
    if sys.platform != "win32":  # which quotes in its own way
        parsed(shlex.split(line))


@pytest.fixture(autouse=True)
def every_command_that_is_named_runs() -> Iterator[None]:
    """Each is taken by the real command line, and can be told from the words after it."""
    yield
    named, advised = sorted(_named), sorted(_advice)
    _advice.clear()
    _named.clear()  # at once: what is wrong is wrong of this test alone
    for line in named:
        _check(line)
        for advice in advised:
            after = advice.partition(line)[2] if line in advice else ""
            if not any(other != line and other.startswith(line) and other in advice for other in named):
                assert not after or after[0] in "\n;,.)`" or after.startswith(" ("), f"{advice!r}: where does it end?"
