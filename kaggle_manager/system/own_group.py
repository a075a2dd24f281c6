"""A command in a process group of its own: however its caller leaves, nothing of the group stays behind.

`subprocess.run` ends the command alone, and what that one had started lives on. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from kaggle_manager.system.patience import Patience

LOOK_S = 1.0
GRACE_S = 10.0
"""After SIGTERM the command may end what it started elsewhere, and remove its folders, for so long."""


def run_in_group(
    command: list[str], *, timeout: float, progress: Callable[[], object] = lambda: None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, without an input, with what it printed as text; no process of its group is left behind.

    Args:
        timeout: seconds that it may compute without progress, see `Patience`.
        progress: asked every second; another answer than before is progress.

    Raises:
        subprocess.TimeoutExpired: it has computed longer than that, or has done nothing for as long.
    """
    with (
        _hangup_as_ctrl_c(),
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            **options,
        ) as process,
    ):
        try:
            out, err = _communicated(process, Patience(process.pid, timeout), progress)
        finally:
            _end(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _communicated(
    process: subprocess.Popen[str], patience: Patience, progress: Callable[[], object]
) -> tuple[str, str]:
    before: object = None
    while True:
        try:
            return process.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            if (now := progress()) != before:
                before = now
                patience.moved()
            elif patience.is_over:
                raise


def _end(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        return
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
    finally:  # also when the user insists
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _hangup_as_ctrl_c() -> Iterator[None]:
    """The end of the terminal reaches this process alone: the group is in a session of its own."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    hangup = getattr(signal, "SIGHUP", None)
    in_main = threading.current_thread() is threading.main_thread()
    if hangup is None or not in_main or signal.getsignal(hangup) is not signal.SIG_DFL:  # ignored: `nohup`
        yield
        return
    signal.signal(hangup, interrupt)
    try:
        yield
    finally:
        signal.signal(hangup, signal.SIG_DFL)
