"""The progress of a transfer for the live line: files, bytes, speed, time left.

In a pipe only a transfer that lasts leaves lines: the first of a short one would stand there alone. Called from several
threads. Bytes that were there before the transfer began count as done, never as speed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from kaggle_manager.console.live_line import SEPARATOR
from kaggle_manager.console.reporter import PLAIN_INTERVAL_S, Reporter
from kaggle_manager.system.formatting import count, duration, size

# The speed shown is that of the last WINDOW_S; it is shown every SHOW_EVERY_S at most.
WINDOW_S = 10.0
SHOW_EVERY_S = 0.2


class TransferMeter:
    """Shows the progress of files that are transferred together.

    Args:
        verb: "downloading", "uploading".
        files: how many.
        total: bytes in all; 0 when unknown.
    """

    def __init__(
        self, reporter: Reporter, verb: str, files: int, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reporter, self._verb, self._files, self._total, self._clock = reporter, verb, files, total, clock
        self._lock = threading.Lock()
        self._first: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._whole: set[str] = set()
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._began, self._shown_at = clock(), float("-inf")

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """File `name` has `done` of `total` bytes."""
        with self._lock:
            self._first.setdefault(name, done)
            self._done[name] = done
            if done == total:
                self._whole.add(name)
            now = self._clock()
            is_last = len(self._whole) == self._files
            if now - self._shown_at < SHOW_EVERY_S and not is_last:
                return
            self._shown_at = now
            text = self._text(now)
            share = min(1.0, self.done / self._total) if self._total else None
        self._reporter.status(text, share=share, brief=now - self._began < PLAIN_INTERVAL_S)

    @property
    def done(self) -> int:
        """Bytes that are there, including those from before the transfer."""
        return sum(self._done.values())

    @property
    def moved(self) -> int:
        """Bytes transferred. A file begun anew makes it smaller again."""
        return sum(max(0, done - self._first[name]) for name, done in self._done.items())

    def _text(self, now: float) -> str:
        self._marks.append((now, self.moved))
        while len(self._marks) > 2 and now - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()
        begun, before = self._marks[0]
        speed = max(0.0, (self.moved - before) / (now - begun)) if now > begun else 0.0
        of = f" of {size(self._total)}" if self._total else ""
        what = count(self._files, "file") if self._files == 1 else f"{len(self._whole)} of {self._files} files"
        parts = [f"{self._verb} {what}", f"{size(self.done)}{of}"]
        if speed > 0:
            parts.append(f"{size(speed)}/s")
            if self._total > self.done:
                parts.insert(1, f"{duration((self._total - self.done) / speed)} left")
        return SEPARATOR.join(parts)
