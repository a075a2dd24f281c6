"""How long this session has, and when to stop: a decision on numbers, with the clock passed in.

A session stops at a rollout start when what remains would not hold one more stretch of training - the longest seen so
far - plus the save and the epilogue that must follow it. Evaluations are no such stretch: one that would take too long
is given up and done in the next session. The cost of a save is measured, not
assumed, and what follows it is reckoned by the size of what the session leaves. A signal asks for the same stop.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from kaggle_manager.system.durations import parse_duration
from kaggle_manager.system.formatting import count

# Until the first save is measured, and to cover one twice as slow as the slowest seen.
_FIRST_SAVE_S = 2.0
_SAVE_FACTOR = 2.0
# Everything a session leaves is read and hashed before its result is written, the replay rows once for each checkpoint
# they belong to: 1.9 GB/s were measured from memory, a disk and a processor without instructions for it are far slower.
_HASHED_A_SECOND = 200e6
# How long a rollout may go on after a request to stop: so many seconds at least, so many times the longest one seen.
_ROLLOUT_ENDS_S, _ROLLOUT_FACTOR = 30.0, 2.0


class SessionClock:
    """Time left in this session.

    Args:
        deadline_s: seconds from the start until the session must have ended; None for no limit.
        epilogue_s: seconds kept for what follows the last save (hashing the outputs, the result).
        max_steps: timesteps this session may train at most; None for no limit.
        now: monotonic clock, seconds.
        started: when the session began, on that clock; None for now. The deadline counts from it.
    """

    def __init__(
        self,
        deadline_s: float | None = None,
        *,
        epilogue_s: float = 3.0,
        max_steps: int | None = None,
        now: Callable[[], float] = time.monotonic,
        started: float | None = None,
    ) -> None:
        self._now = now
        self.started = now() if started is None else min(started, now())
        self._end = None if deadline_s is None else self.started + deadline_s
        self._epilogue_s = epilogue_s
        self._max_steps = max_steps
        self._slowest_save_s: float | None = None
        self._leaves_bytes = 0
        self._longest_stretch_s = 0.0
        self._last_start: float | None = None
        self._request = ""
        self._requested_at = 0.0

    def elapsed(self) -> float:
        """Seconds since the session began."""
        return self._now() - self.started

    def saved(self, seconds: float, size: int = 0) -> None:
        """Record what a save cost, and how many bytes the checkpoint has with its replay rows."""
        self._slowest_save_s = max(seconds, self._slowest_save_s or 0.0)
        self._leaves_bytes = 2 * size  # two are kept

    def request_stop(self, reason: str) -> None:
        """Ask for a stop at the next rollout start; the first reason is kept."""
        if not self._request:
            self._request, self._requested_at = reason, self._now()

    @property
    def stop_requested(self) -> bool:
        return bool(self._request)

    def not_trained(self, seconds: float) -> None:
        """Something that can be given up took this long since the last rollout start: it is no stretch of training."""
        if self._last_start is not None:
            self._last_start += seconds

    def why_stop_now(self, needed_s: float = 0.0) -> str:
        """Before or inside something that can be given up, such as an evaluation: the reason to do so, or ''.

        Args:
            needed_s: seconds it will take from here, as far as known.
        """
        if self._request:
            return self._request
        return (
            self._used_up() if self._end is not None and self._now() + needed_s + self.reserve_s() >= self._end else ""
        )

    def left_s(self) -> float | None:
        """Seconds of training left before the reserve; None without a limit."""
        return None if self._end is None else self._end - self._now() - self.reserve_s()

    def reserve_s(self) -> float:
        """Seconds to keep for a save and the epilogue."""
        save = _FIRST_SAVE_S if self._slowest_save_s is None else self._slowest_save_s
        return save * _SAVE_FACTOR + self._epilogue_s + self._leaves_bytes / _HASHED_A_SECOND

    def why_stop(self, steps_this_session: int) -> str:
        """Called at every rollout start: the reason to stop now, or ''."""
        now = self._now()
        if self._last_start is not None:
            self._longest_stretch_s = max(self._longest_stretch_s, now - self._last_start)
        self._last_start = now
        if self._request:
            return self._request
        if self._max_steps is not None and steps_this_session >= self._max_steps:
            return f"this session was to train {count(self._max_steps, 'timestep')}"
        if self._end is not None and now + self._longest_stretch_s + self.reserve_s() >= self._end:
            return self._used_up()
        return ""

    def why_leave_rollout(self) -> str:
        """Called inside a rollout, where nothing can be saved: the reason to leave it for all that, or ''."""
        if self._request:
            patience_s = max(_ROLLOUT_ENDS_S, _ROLLOUT_FACTOR * self._longest_stretch_s)
            return self._request if self._now() >= self._requested_at + patience_s else ""
        return self._used_up() if self._end is not None and self._now() + self._epilogue_s >= self._end else ""

    def _used_up(self) -> str:
        return f"the session's time is used up after {self.elapsed():.0f} s"


STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""What asks a training to stop. SIGHUP: its terminal is gone."""


@contextmanager
def stop_signals(clock: SessionClock, *, second_interrupts: bool = True) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP ask `clock` for a stop. A signal that was ignored stays so (`nohup`).

    Args:
        second_interrupts: the second SIGINT interrupts at once: a user at a terminal insists.
    """

    def ask(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and clock.stop_requested and second_interrupts:
            raise KeyboardInterrupt
        clock.request_stop(f"asked to stop by {signal.Signals(number).name}")

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, ask) for number in heard}
    # `trainer/entry.py` starts a trainer with the signals held back: until here, and again from the end on.
    mask = set_mask(signal.SIG_UNBLOCK, STOP_SIGNALS) if (set_mask := getattr(signal, "pthread_sigmask", None)) else ()
    try:
        yield
    finally:
        if set_mask:
            set_mask(signal.SIG_SETMASK, mask)
        for number, handler in previous.items():
            signal.signal(number, handler)


def outlive_stop_signals() -> None:
    """In a process that works for a training: it ends when the training says so, and by no signal.

    What this process starts is out of a terminal's reach as well, but ends by a SIGTERM of its own.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _pass)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not inherited by the programs that a process starts."""


def session_limit(text: str) -> float:
    """Seconds of a duration longer than zero.

    Raises:
        ValueError: it is none.
    """
    seconds = parse_duration(text)
    if not 0 < seconds < float("inf"):  # so many digits are infinite
        raise ValueError(f"{text!r} is not a duration longer than zero")
    return seconds
