"""What a person sees while a run goes on: plain lines in a pipe, one live line below them on a terminal.

Text from a kernel is shown as it is, never interpreted as markup and stripped of control characters, so a log cannot
drive the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

# Plain lines about progress, at most one in this many seconds.
PLAIN_INTERVAL_S = 5.0


class Reporter:
    """Writes lines to `stream`; `with` it to have the live line cleaned up whatever happens."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._clock = clock
        self._live: Live | None = None
        self._last_plain = float("-inf")

    def __enter__(self) -> Reporter:
        if self.console.is_terminal:
            self._live = Live(console=self.console, transient=True, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def line(self, text: str, style: str = "") -> None:
        """One line, kept."""
        self.console.print(Text(printable(text), style=style))

    def step(self, number: int, text: str) -> None:
        self.line(f"[STEP{number}] {text}", "bold")

    def checkpoint(self, text: str) -> None:
        self.line(f"[CHECKPOINT] {text}", "green")

    def warn(self, text: str) -> None:
        self.line(f"[WARNING] {text}", "yellow")

    def kernel(self, text: str) -> None:
        """One line of a kernel's log."""
        self.line(f"  | {text}", "dim")

    def status(self, text: str) -> None:
        """What is going on right now; replaces the one before."""
        if self._live:
            self._live.update(Text(printable(text), style="cyan"))
        elif self._clock() - self._last_plain >= PLAIN_INTERVAL_S:
            self._last_plain = self._clock()
            self.line(f"  {text}")


def printable(text: str) -> str:
    """`text` without control characters other than tab and line ends."""
    return "".join(c for c in text if c.isprintable() or c in "\t\n")


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds for people: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
