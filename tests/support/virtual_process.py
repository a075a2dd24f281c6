"""The process the manager runs in, simulated: a clock that passes when somebody waits, and a death at any deed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Killed(BaseException):
    """The manager's process is gone."""


class Clock:
    """Seconds since the epoch, which pass when somebody waits."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


class Mortality:
    """Kills the manager at its n-th deed; once dead, nothing it still tries has any effect."""

    def __init__(self) -> None:
        self.dead = False
        self._left: int | None = None
        self.resting = False
        """What happens now is not the manager's doing."""
        self.disk_is_full = False
        """Nothing can be written in the journal."""

    @contextmanager
    def rests(self) -> Iterator[None]:
        """What happens inside is another process's doing."""
        before, self.resting = self.resting, True
        try:
            yield
        finally:
            self.resting = before

    def arm(self, deeds: int | None) -> None:
        self.dead, self._left = False, deeds

    def deed(self) -> None:
        if self.resting:
            return
        if self.dead:
            raise Killed
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self.dead = True
                raise Killed
