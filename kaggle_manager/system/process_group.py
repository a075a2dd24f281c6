"""A process of the user's and everything it started: none may outlive its session, however deep it hides.

Where namespaces hold a session, killing its first process is enough. Elsewhere every descendant is killed, and what is
left of its process group. (On macOS and Windows a descendant whose parent ended before it can escape.)
Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


class ProcessGroup:
    """A process, and everything that it started. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], others: list[int]) -> None:
        self.process = process
        self._others = others  # children that this process had before

    def members(self) -> list[int]:
        """Every living process of it, parents before their children."""
        return _descendants(besides=self._others)

    def kill(self) -> None:
        """Kill what is left of it; returns when they are gone."""
        process = self.process
        if sys.platform == "win32":
            if process.poll() is None:
                subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        else:
            while remaining := self.members():
                for pid in reversed(remaining):  # children first: without a subreaper they are found by their parents
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _adopt_orphans(False)


def start(command: list[str], *, working: Path, environment: dict[str, str]) -> ProcessGroup:
    """Start a process with its output in pipes, in a session of its own.

    On Linux it dies with this process, whatever kills that. To be called before this process has threads.
    """
    _adopt_orphans(True)
    others = [] if sys.platform == "win32" else _descendants()
    process = subprocess.Popen(
        command,
        cwd=working,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform.startswith("linux") else None,
    )
    return ProcessGroup(process, others)


def _adopt_orphans(adopt: bool) -> None:
    """Whether grandchildren whose parent ended become this process's children, so that none can hide; Linux alone."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9)


def _descendants(besides: Collection[int] = ()) -> list[int]:
    """Every living process below this one, parents before their children; none of `besides`, nor what is below them."""
    parents = dict(_from_proc() if Path("/proc/self").exists() else _from_ps())
    found = [os.getpid()]
    for each in found:
        found.extend(child for child, parent in parents.items() if parent == each and child not in besides)
    return found[1:]


def _from_proc() -> Iterator[tuple[int, int]]:
    """Each living process and its parent."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # It ended between the listing and the reading.
        if after_name[0] != "Z":
            yield int(entry.parent.name), int(after_name[1])


def _from_ps() -> Iterator[tuple[int, int]]:
    """The same where there is no `/proc`, without the process that lists them."""
    with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,stat="], stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        for line in listing.stdout.read().splitlines():
            process, parent, state = line.split()[:3]
            if not state.startswith("Z") and int(process) != listing.pid:
                yield int(process), int(parent)
