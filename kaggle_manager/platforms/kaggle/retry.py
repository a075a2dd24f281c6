"""When to ask again, and after how long: full jitter, the server's Retry-After, a bounded number of tries.

tenacity runs the loop; this module holds the numbers. Never repeats what the caller did not name as repeatable.
Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from kaggle_manager.errors import RemoteError

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a call is.

    Attributes:
        attempts: tries in a row without progress before the last error is raised.
        base_s, cap_s: pause n is uniform in [0, min(cap, base * 2**(n-1))] seconds.
        retry_after_cap_s: the longest wait a server can impose; its own figure stays on the raised error.
        sleep: how to wait.
    """

    attempts: int = 6
    base_s: float = 1.0
    cap_s: float = 30.0
    retry_after_cap_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def pause_s(self, failures: int, error: BaseException | None = None) -> float:
        """Seconds to wait after this many failures in a row (1 or more)."""
        jittered = random.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32)))
        asked = error.retry_after_s if isinstance(error, RemoteError) else None
        return jittered if asked is None else max(jittered, min(asked, self.retry_after_cap_s))

    def run(
        self,
        action: Callable[[], T],
        *,
        on: tuple[type[BaseException], ...],
        progress: Callable[[], int] = lambda: 0,
    ) -> T:
        """Call `action` until it returns, repeating on the named errors.

        Args:
            action: what to do.
            on: the errors after which it may be done again.
            progress: a figure that grows as work gets done; growth makes the patience new.

        Raises:
            whatever the last try raised.
        """
        fruitless = _Fruitless(progress)
        return Retrying(
            sleep=self.sleep,
            retry=retry_if_exception_type(on),
            wait=lambda state: self.pause_s(fruitless.failures(state), _error(state)),
            stop=lambda state: fruitless.failures(state) >= self.attempts,
            reraise=True,
        )(action)


class _Fruitless:
    """Counts the failures since the last progress; asking twice about the same try changes nothing."""

    def __init__(self, progress: Callable[[], int]) -> None:
        self._progress = progress
        self._best = progress()
        self._forgiven = 0

    def failures(self, state: RetryCallState) -> int:
        if (now := self._progress()) > self._best:
            self._best, self._forgiven = now, state.attempt_number - 1
        return state.attempt_number - self._forgiven


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: a number or a date) asks for; None if it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None
