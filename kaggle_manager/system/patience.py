"""How long a process is waited for: by what it computes, so that a slow or busy machine gives it what it needs.

Standard library only: this module travels into the session.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

COMPUTES = 0.01
"""Of the time: a process that takes less of a processor waits for something that may never come."""


class Patience:
    """Ends when a process has computed for some seconds without progress, or has for as long done nothing at all.

    Args:
        pid: of the process; what it started counts as well.
        seconds: of computing.
        clock: seconds that pass.
        computed: processor seconds that a process and what it started have taken so far.
    """

    def __init__(
        self,
        pid: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[int], float] | None = None,
    ) -> None:
        self._pid, self._seconds, self._clock, self._computed = pid, seconds, clock, computed or computed_s
        self._most = 0.0
        self.moved()

    def moved(self) -> None:
        """There was progress: it is waited for anew."""
        self._since, self._before = self._clock(), self._most

    @property
    def is_over(self) -> bool:
        passed = self._clock() - self._since
        self._most = max(self._most, self._computed(self._pid))  # a child that has ended may count no more
        took = self._most - self._before
        return (min(passed, took) if took >= COMPUTES * passed else passed) > self._seconds


def computed_s(*pids: int) -> float:
    """Processor seconds of these processes and what they started, so far; infinite where this machine does not say."""
    try:
        ticks, per_s = 0, os.sysconf("SC_CLK_TCK")
        stats = {int(entry.parent.name): _stat(entry) for entry in Path("/proc").glob("[0-9]*/stat")}
        if not stats:
            return float("inf")
        found = [*dict.fromkeys(pids)]
        for each in found:
            found += [child for child, stat in stats.items() if stat and int(stat[1]) == each and child not in found]
            ticks += sum(map(int, stats.get(each, [])[11:15]))
        return ticks / per_s
    except (OSError, ValueError, AttributeError):
        return float("inf")


def _stat(entry: Path) -> list[str]:
    """What follows the name in a process's line: state, parent, ..., and the ticks of it and of children that ended."""
    try:
        return entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # it ended between the listing and the reading
        return []
