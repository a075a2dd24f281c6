"""The live line of a terminal: what is going on, how far it is, for how long. Drawing is pure; a thread redraws.

Promises: something moves as long as the program lives; a line never wraps; costs less the longer nothing changes (under
ten CPU-seconds in twelve hours). Never draws where there is no terminal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kaggle_manager.console.formatting import duration, printable

_BAR_CELLS = 12
# Seconds between two drawings: quick while somebody may be looking, slow once a phase lasts.
_QUICKEST_S, _SLOWEST_S = 0.125, 2.0


@dataclass(frozen=True)
class Glyphs:
    """The characters of spinner and bar."""

    spinner: str
    full: str
    empty: str
    between: str

    @classmethod
    def of(cls, encoding: str) -> Glyphs:
        """What a console of this encoding can show."""
        glyphs = cls("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "━", "─", " · ")
        try:
            f"{glyphs.spinner}{glyphs.full}{glyphs.empty}{glyphs.between}".encode(encoding or "ascii")
        except (UnicodeEncodeError, LookupError):
            return cls("|/-\\", "#", "-", " | ")
        return glyphs


@dataclass(frozen=True)
class Activity:
    """What is going on.

    Attributes:
        phase: such as "waiting in the queue".
        since: when it began, on the reporter's clock.
        detail: the newest about it; stands in place of the phase.
        share: how much of it is done, 0 to 1; None when nobody knows.
        footer: what is worth seeing in every phase, such as the quota.
    """

    phase: str
    since: float
    detail: str = ""
    share: float | None = None
    footer: str = ""


def line_of(activity: Activity, now: float, glyphs: Glyphs, frame: int = 0) -> str:
    """The live line at `now`; a narrow terminal shows its beginning."""
    bar = "" if activity.share is None else f"{_bar(activity.share, glyphs)} "
    parts = [duration(now - activity.since), f"{bar}{activity.detail or activity.phase}", activity.footer]
    text = glyphs.between.join(part for part in parts if part)
    return printable(f"{glyphs.spinner[frame % len(glyphs.spinner)]} {text}").replace("\n", " ").replace("\t", " ")


def pause_s(elapsed_s: float) -> float:
    """Seconds until the next drawing of a phase that has lasted so long."""
    return min(_SLOWEST_S, max(_QUICKEST_S, elapsed_s / 240))


def _bar(share: float, glyphs: Glyphs) -> str:
    full = int(min(1.0, max(0.0, share)) * _BAR_CELLS)
    return glyphs.full * full + glyphs.empty * (_BAR_CELLS - full)


class LiveLine:
    """Draws the activity on a terminal until `stop`."""

    def __init__(self, console: Console, activity: Callable[[], Activity], clock: Callable[[], float]) -> None:
        self._console, self._activity, self._clock = console, activity, clock
        self._glyphs = Glyphs.of(console.encoding)
        # Its own thread would draw several times a second for twelve hours.
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._frame = 0
        self._thread = threading.Thread(target=self._keep_drawing, name="live line", daemon=True)

    def start(self) -> None:
        self._live.start()
        self._draw()
        self._thread.start()

    def phase_changed(self) -> None:
        """Draw at once, and quickly again."""
        self._changed.set()

    def stop(self) -> None:
        self._stopped.set()
        self._changed.set()
        self._thread.join()
        self._live.stop()

    def _keep_drawing(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait(pause_s(self._clock() - self._activity().since))
            self._changed.clear()
            self._draw()

    def _draw(self) -> None:
        text = line_of(self._activity(), self._clock(), self._glyphs, self._frame)
        self._frame += 1
        self._live.update(Text(text, style="cyan", no_wrap=True, overflow="ellipsis"), refresh=True)
