"""When to ask for a session's status again. Pure but for the clock it is given.

The log tells the end at once, so polls only back it up: brisk while a session starts or ends, slow while its log shows
it running. Full jitter keeps several managers from asking in step.
"""

from __future__ import annotations

from collections.abc import Callable

from kaggle_manager.kaggle_api.models import KernelState

FIRST_POLL_S = 1.0
GROWTH = 1.5
# The longest pause: while the end is near, while nothing but the status tells it, while a live log would tell it.
SLOWEST_AT_END_S, SLOWEST_POLL_S, SLOWEST_WITH_LOG_S = 20.0, 60.0, 240.0


def slowest_s(state: KernelState | None, *, log_is_live: bool, is_ending: bool) -> float:
    """The longest pause between two polls in this phase."""
    if is_ending or state is KernelState.CANCEL_REQUESTED:
        return SLOWEST_AT_END_S
    return SLOWEST_WITH_LOG_S if state is KernelState.RUNNING and log_is_live else SLOWEST_POLL_S


class Pace:
    """When the next poll is due. `share` gives a number in [0, 1)."""

    def __init__(self, now: float, share: Callable[[], float]) -> None:
        self.due = now
        self._share = share
        self._pause_s = FIRST_POLL_S

    def hurry(self, now: float) -> None:
        """Something happened: ask at once, and briskly from here on."""
        self.due, self._pause_s = now, FIRST_POLL_S

    def asked(self, now: float, slowest: float) -> None:
        """A poll was made."""
        self._pause_s = min(slowest, self._pause_s * GROWTH)
        self.due = now + max(FIRST_POLL_S, self._share() * self._pause_s)
