"""A signal that can be built: what it shows second by second, whatever it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import SignalController, Timing

# Two through movements that conflict, and a turn that is green in both.
GREENS = ("Grg", "rGg", "GrG")
TIMING = Timing(yellow_s=3, longest_clearance_s=4, min_green_s=5, max_green_s=20)


class Traffic:
    """A box that stays occupied until `clear_at` and vehicles that stand before `waiting` links."""

    def __init__(self, clear_at: int = 0, waiting: Sequence[int] = ()) -> None:
        self.clear_at, self.waiting, self.second = clear_at, waiting, 0
        self.asked: list[list[int]] = []

    def is_in_box(self, links: Sequence[int]) -> bool:
        self.asked.append(list(links))
        return self.second < self.clear_at

    def is_waiting(self, links: Sequence[int]) -> bool:
        return bool({*links} & {*self.waiting})


def shown(signal: SignalController, wanted: int, seconds: int, traffic: Traffic) -> list[str]:
    states = []
    for _ in range(seconds):
        states.append(signal.next_second(wanted, traffic))
        traffic.second += 1
    return states


def test_yellow_and_then_red_stand_before_a_conflicting_green_and_spare_who_keeps_theirs() -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic()
    assert shown(signal, 0, 5, traffic) == ["Grg"] * 5
    assert shown(signal, 1, 4, traffic) == ["yrg"] * 3 + ["rGg"]  # nobody is in the box: no red is added
    assert traffic.asked == [[0]]
    assert (signal.phase, signal.following, signal.green_s, signal.switches) == (1, None, 1, 1)


@pytest.mark.parametrize(("clear_at", "reds"), [(9, 1), (10, 2), (1_000, 4)])
def test_red_is_extended_while_a_losing_vehicle_is_in_the_box_and_never_beyond_its_bound(
    clear_at: int, reds: int
) -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic(clear_at)
    shown(signal, 0, 5, traffic)
    assert shown(signal, 1, 4 + reds, traffic) == ["yrg"] * 3 + ["rrg"] * reds + ["rGg"]


def test_a_green_lasts_its_minimum_whatever_is_asked_for_and_a_request_waits_for_it() -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic()
    assert shown(signal, 1, 9, traffic) == ["Grg"] * 5 + ["yrg"] * 3 + ["rGg"]
    assert shown(signal, 0, 5, traffic) == ["rGg"] * 4 + ["ryg"]


def test_what_is_asked_for_while_it_changes_does_not_change_what_comes() -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic()
    shown(signal, 1, 6, traffic)
    assert shown(signal, 2, 3, traffic)[-1] == "rGg"


def test_a_green_ends_at_its_maximum_for_the_next_phase_with_somebody_waiting() -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic(waiting=[1])
    assert shown(signal, 0, 24, traffic) == ["Grg"] * 20 + ["yrg"] * 3 + ["rGg"]
    alone = SignalController(GREENS, TIMING)
    assert shown(alone, 0, 60, Traffic()) == ["Grg"] * 60
    assert shown(alone, 0, 1, Traffic(waiting=[0])) == ["Grg"]  # who has green already does not end it


def test_a_change_by_which_nobody_loses_green_needs_no_yellow() -> None:
    signal, traffic = SignalController(GREENS, TIMING), Traffic(1_000)
    shown(signal, 0, 5, traffic)
    assert shown(signal, 2, 1, traffic) == ["GrG"]
    assert signal.switches == 1
