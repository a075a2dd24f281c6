"""Who starts the next session: the least advanced of a campaign, and between all runs nobody waits for ever."""

from __future__ import annotations

import random

import pytest

from kaggle_manager.runs.slots import STANDS_S, Candidate, Place, ahead_of, place_of, who_starts

NOW = 1_800_000_000.0
HOUR, LOOK_S = 3600.0, 300.0


def test_those_that_have_come_least_far_of_their_target_start_first() -> None:
    shares = [Candidate(0.5), Candidate(0.0), Candidate(0.9), Candidate(0.25)]
    assert who_starts(shares, 3, NOW) == [1, 3, 0]
    assert who_starts(shares, 0, NOW) == who_starts(shares, -1, NOW) == []


def test_a_member_that_waits_for_room_keeps_its_slot_and_its_turn() -> None:
    waits = Candidate(0.9, NOW + 60, in_line=True)
    behind = [Candidate(0.1), Candidate(0.2), waits]
    assert who_starts(behind, 1, NOW) == [], "another member would stand behind it"
    assert who_starts(behind, 2, NOW) == [0]
    assert who_starts(behind, 1, NOW + 60) == [2], "its wait is over, and it is the first in line"


def test_a_member_that_waits_for_anything_else_takes_no_slot() -> None:
    assert who_starts([Candidate(0.0, NOW + 60), Candidate(0.5)], 1, NOW) == [1]


def test_who_comes_first_to_the_line_is_first_until_it_looks_no_more() -> None:
    line = [Place("a", NOW - 20, NOW - 5), Place("b", NOW - 10, NOW - 5), Place("dead", NOW - 9e5, NOW - STANDS_S - 1)]
    assert ahead_of(place_of("c", None, NOW), line) == 2
    assert ahead_of(place_of("b", line[1], NOW), line) == 1
    assert ahead_of(place_of("a", line[0], NOW), line) == 0
    assert place_of("dead", line[2], NOW) == Place("dead", NOW, NOW), "at the end again"
    assert place_of("a", line[0], NOW) == Place("a", NOW - 20, NOW)


def test_a_clock_that_was_ahead_holds_nobody_up() -> None:
    assert ahead_of(place_of("b", None, NOW), [Place("a", NOW - 20, NOW + HOUR)]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_longer_than_a_session_of_each_before_it_however_quick_the_others_are(seed: int) -> None:
    """Runs of one journal over a week of sessions of an hour, each looking for room at moments of its own.

    The first three look at once when their session has ended, as in a campaign; the others within five minutes.
    """
    draw = random.Random(seed)
    room, runs = draw.choice([1, 2, 5]), [f"run {number}" for number in range(draw.randint(3, 9))]
    line: dict[str, Place] = {}
    longest: dict[str, float] = {}  # until when a run that waits has to have started
    starts: dict[str, list[float]] = {run: [] for run in runs}
    looks = {run: draw.uniform(0, 60) for run in runs}
    while (now := min(looks.values())) < 7 * 24 * HOUR:
        run = min(runs, key=lambda each: looks[each])
        live = sum(now < each[-1] + HOUR for each in starts.values() if each)
        own = place_of(run, line.get(run), now)
        ahead = ahead_of(own, line.values())
        if live + ahead >= room:
            longest.setdefault(run, now + (ahead // room + 1) * (HOUR + LOOK_S) + LOOK_S)
            line[run], looks[run] = own, now + draw.uniform(30.0, LOOK_S)
            continue
        assert now <= longest.pop(run, now)
        waited = [sum(own.since <= start <= now - LOOK_S for start in starts[each]) for each in runs if each != run]
        assert max(waited) <= 1, "while it waited, no other had two turns"
        starts[run].append(now)
        looks[run] = now + HOUR + (0.0 if run in runs[:3] else draw.uniform(0, LOOK_S))
        line.pop(run, None)
    assert min(map(len, starts.values())) > 7 * 24 * room // len(runs) // 2
