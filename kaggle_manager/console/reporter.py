"""The output of a run while it continues: plain lines in a pipe, one live line below them on a terminal.

Text from a kernel is shown as it is, never interpreted as markup and stripped of control characters, so a log cannot
drive the terminal. Nothing a console cannot show ends the program.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kaggle_manager.console.live_line import FRAMES_PER_S, Activity, Glyphs, line_of
from kaggle_manager.errors import printable

# Plain lines about progress: at most one in this many seconds, and fewer once a phase lasts.
PLAIN_INTERVAL_S, PLAIN_INTERVAL_LATER_S = 5.0, 60.0
LATER_S = 600.0


class Reporter:
    """Writes lines to `stream`; `with` it to have a live line on a terminal, cleaned up whatever happens."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        stream = stream or sys.stdout
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a log in another script than the console's is no reason to end
        self.console = Console(file=stream, markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._clock = clock
        self._glyphs = Glyphs.of(ascii_only=self.console.options.ascii_only)
        self._live: Live | None = None
        self._activity = Activity("starting", clock())
        self._last_plain = float("-inf")
        self._about = ""

    def __enter__(self) -> Reporter:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                console=self.console, transient=True, refresh_per_second=FRAMES_PER_S, get_renderable=self._drawing
            )
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _drawing(self) -> Text:
        text = line_of(self._activity, self._clock(), self._glyphs, self.console.width)
        return Text(text, style="cyan", no_wrap=True, overflow="ellipsis")

    @contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Every line inside begins with `name`: several runs share one output."""
        before, self._about = self._about, f"{name}: "
        try:
            yield
        finally:
            self._about = before

    def line(self, text: str, style: str = "") -> None:
        """One line, kept."""
        self.console.print(Text(printable(self._about + text), style=style))

    def step(self, number: int, text: str) -> None:
        """One of the numbered steps of a session; the live line shows it until the next."""
        self.line(f"[STEP{number}] {text}", "bold")
        self.phase(text)

    def checkpoint(self, text: str) -> None:
        self.line(f"[CHECKPOINT] {text}", "green")

    def warn(self, text: str) -> None:
        self.line(f"[WARNING] {text}", "yellow")

    def kernel(self, text: str) -> None:
        """One line of a kernel's log."""
        self.line(f"  | {text}", "dim")

    def phase(self, text: str) -> None:
        """What begins now: the live line shows it, and since when."""
        self._activity = Activity(self._about + text, self._clock(), footer=self._activity.footer)
        self._last_plain = float("-inf")
        if self._live:
            self._live.refresh()

    def status(self, text: str, *, share: float | None = None, now: bool = False, brief: bool = False) -> None:
        """What is going on right now; replaces the one before.

        Args:
            text: in parts with " · " between them, the most important first.
            share: how much of it is done, 0 to 1; drawn as a bar.
            now: in a pipe, not left out even if another was just printed.
            brief: left out in a pipe: it may be over in a moment.
        """
        self._activity = replace(self._activity, detail=text, share=share)
        if self._live or brief:
            return  # it is drawn with the next frame, where there is one
        moment = self._clock()
        is_late = moment - self._activity.since > LATER_S
        if now or moment - self._last_plain >= (PLAIN_INTERVAL_LATER_S if is_late else PLAIN_INTERVAL_S):
            self._last_plain = moment
            self.line(f"  {text}")

    def quota(self, text: str) -> None:
        """What is left of the week, shown at the end of the live line from now on; "" shows nothing."""
        self._activity = replace(self._activity, footer=text)
