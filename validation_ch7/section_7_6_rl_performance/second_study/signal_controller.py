"""A signal that can be built: shows the green that is asked for, within what a junction may show.

Between two greens that conflict come yellow and then red for all who lose, which is extended, a second at a time and up
to a bound, while one of their vehicles is still in the box ("red-clearance extension" by a box detector). A green lasts
its minimum whatever is asked for; once it has lasted its maximum and somebody waits elsewhere, the next phase with
someone waiting is shown, whatever is asked for.

Promises: the same for every controller that chooses phases, second by second; no input, output or clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LOSES = "Gg"


@dataclass(frozen=True)
class Timing:
    """Seconds of each interval of the signal.

    Sources: 3 s of yellow as in RESCO's runs; green from 5 to 50 s as in the network files' own `minDur` and `maxDur`
    (Cologne); the longest clearance is that of the box, 33 m at the 8.5 m/s of a vehicle that has just started.
    """

    yellow_s: int = 3
    longest_clearance_s: int = 4
    min_green_s: int = 5
    max_green_s: int = 50


class Traffic(Protocol):
    """What the signal's own detectors say."""

    def is_in_box(self, links: Sequence[int]) -> bool:
        """Whether a vehicle that entered over one of these links is still inside the junction."""

    def is_waiting(self, links: Sequence[int]) -> bool:
        """Whether a vehicle stands before one of these links."""


class SignalController:
    """Shows one of `greens`, a letter for each link, at a time.

    Attributes:
        phase: the green shown, or shown last.
        following: the green that comes next, while there is yellow or red between; else None.
        green_s: seconds that `phase` has been green.
        changing_s: seconds since the end of that green.
        switches: changes of green so far.
    """

    def __init__(self, greens: Sequence[str], timing: Timing) -> None:
        self._greens, self._timing = tuple(greens), timing
        self.phase = 0
        self.following: int | None = None
        self.green_s = self.changing_s = self.switches = 0

    def next_second(self, wanted: int, traffic: Traffic) -> str:
        """The state to show for the next second, while green `wanted` is asked for."""
        if self.following is None and self.green_s >= self._timing.min_green_s:
            following = self._overdue(traffic) if wanted == self.phase else wanted
            if following != self.phase:
                self.following, self.changing_s = following, 0
                self.switches += 1
        if self.following is not None:
            if (state := self._between(self.phase, self.following, traffic)) is not None:
                self.changing_s += 1
                return state
            self.phase, self.following, self.green_s = self.following, None, 0
        self.green_s += 1
        return self._greens[self.phase]

    def _overdue(self, traffic: Traffic) -> int:
        """The phase that follows a green that has lasted its maximum; the same one while nobody waits elsewhere."""
        if self.green_s >= self._timing.max_green_s:
            for step in range(1, len(self._greens)):
                other = (self.phase + step) % len(self._greens)
                if traffic.is_waiting(links_losing(self._greens[other], self._greens[self.phase])):
                    return other
        return self.phase

    def _between(self, before: int, after: int, traffic: Traffic) -> str | None:
        """What is shown between two greens now; None when the second one may be shown."""
        losing = links_losing(self._greens[before], self._greens[after])
        if self.changing_s < self._timing.yellow_s:
            light = "y"
        elif self.changing_s < self._timing.yellow_s + self._timing.longest_clearance_s and traffic.is_in_box(losing):
            light = "r"
        else:
            return None
        if not losing:  # nobody has to leave
            return None
        return "".join(light if link in losing else shown for link, shown in enumerate(self._greens[before]))


def links_losing(before: str, after: str) -> list[int]:
    """The links that have green in one state and not in the other."""
    return [link for link, light in enumerate(before) if light in LOSES and after[link] not in LOSES]
