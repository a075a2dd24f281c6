"""What a decision needs of a run's past is kept in its row; memory and file say the same after every write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import Published, RunRow, SessionRow, Trouble, Wait
from kaggle_manager.runs.run_state import GOES_ON, RECENT, RunState, consequences

AT = "2026-01-01T00:00:00+00:00"
RUN = RunRow("r", "section", "scenario", 100, False, "/tree", "local", "me", "km-x", AT)
WAIT = Wait("capacity", "no room", 1000.0, 60.0, {"capacity": 1})
SENT = Published("a" * 64, 1, 2, {}, 0.0)
HELD_UP = replace(RUN, wait=WAIT, trouble=Trouble("StorageError", "full"), told="full", published=SENT)
SUBMISSION = {"manifest_sha256": "c" * 64, "after": 1, "newest": 2, "sizes": {"tree.pack": 9}, "looked_at": 1.5}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunState]:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.add_run(RUN)
    yield RunState(journal, journal.run("r"))
    journal.close()


def session(number: int, **more: Any) -> SessionRow:
    return SessionRow("r", number, Stage.INTENDED, None, number, "b", "", AT, **more)


@pytest.mark.parametrize("kind", GOES_ON)
def test_trouble_is_over_and_may_be_told_again_once_the_run_goes_on(kind: str) -> None:
    changes = consequences(HELD_UP, kind, 1, {})
    assert (changes["trouble"], changes["told"]) == (None, "")


@pytest.mark.parametrize("kind", ["continued", "pushed", "adopted"])
def test_a_wait_ends_with_a_push_or_when_the_user_runs_it_again(kind: str) -> None:
    assert consequences(HELD_UP, kind, 1, {})["wait"] is None
    assert "wait" not in consequences(HELD_UP, "ended", 1, {})


def test_each_wait_for_the_same_cause_counts_until_a_session_is_closed() -> None:
    detail = {"cause": "capacity", "why": "no room", "since": 2000.0, "until": 2120.0}
    again = consequences(HELD_UP, "waits", None, detail)["wait"]
    assert again == Wait("capacity", "no room", 2000.0, 120.0, {"capacity": 2})
    assert consequences(replace(RUN, wait=again), "closed", 1, {})["wait"].tries == {}


def test_a_wait_that_began_under_a_clock_that_was_ahead_is_over() -> None:
    assert WAIT.is_on(1059.9)
    assert not WAIT.is_on(1060.0)
    assert not WAIT.is_on(1000.0 - 30 * 86400)


def test_what_needs_the_user_is_not_hidden_by_what_passes() -> None:
    def after(run: RunRow, kind: str, *, retryable: bool) -> Trouble | None:
        detail = {"type": kind, "message": kind, "next": "", "retryable": retryable, "met_at": 0.0}
        return replace(run, **consequences(run, "error", None, detail)).trouble

    assert after(HELD_UP, "Unavailable", retryable=True) == HELD_UP.trouble
    passing = after(RUN, "Unavailable", retryable=True)
    assert passing == Trouble("Unavailable", "Unavailable", "", True)
    assert after(replace(RUN, trouble=passing), "AuthError", retryable=False) == Trouble("AuthError", "AuthError")


@pytest.mark.parametrize(
    ("gaps_h", "lasted_h"),
    [([1] * 23, 23), ([1] * 24, 24), ([1, 720, 1], 8), ([1, -720, 1], 2), ([24] * 4, 24)],
    ids=["an hour short", "a day", "a clock that jumped ahead", "a clock that was set back", "one look a day"],
)
def test_how_long_trouble_lasts_is_counted_between_looks(gaps_h: list[int], lasted_h: int) -> None:
    run, now = RUN, 1e9
    for gap_h in [0, *gaps_h]:
        now += 3600.0 * gap_h
        detail = {"type": "Unavailable", "message": "", "next": "", "retryable": True, "met_at": now}
        run = replace(run, **consequences(run, "error", None, detail))
    assert run.trouble is not None
    assert run.trouble.lasted_s == 3600.0 * lasted_h
    assert run.trouble.is_lasting == (lasted_h >= 24)


def test_a_stop_stays_until_the_user_runs_it_again_whatever_each_tick_says_of_it() -> None:
    stopped = replace(RUN, **consequences(RUN, "stopped", 3, {"why": "three crashes"}))
    detail = {"type": "KernelFailed", "message": "it was stopped", "next": "", "retryable": False, "met_at": 0.0}
    assert "trouble" not in consequences(stopped, "error", None, detail)
    assert consequences(stopped, "continued", 3, {})["trouble"] is None


def test_counts_of_sessions_are_summed_and_a_published_tree_is_taken_once(run: RunState) -> None:
    run.note("submitting", 1, AT, **SUBMISSION)
    assert run.row.published == Published(**SUBMISSION)
    run.note("submitted", 1, AT)
    assert run.row.published == Published(**SUBMISSION, accepted=True)
    run.note("processing", 1, AT, looked_at=61.5)
    run.note("processing", 1, AT, looked_at=31.5)  # a clock that was ahead, and is right again
    assert run.row.published == replace(Published(**SUBMISSION, accepted=True), looked_at=31.5, waited_s=60.0)
    assert run.journal.run("r").published == run.row.published
    for number in (1, 2):
        run.note("pushed", number, AT, version=number)
        run.note("closed", number, AT, counts={"updates": 5, "restores": number})
    assert run.row.published is None
    assert run.row.counts == {"updates": 10, "restores": 3}


def test_what_lies_ready_on_one_platform_is_not_taken_for_ready_on_another(run: RunState) -> None:
    run.note("submitting", 1, AT, **SUBMISSION)
    run.journal.move_run("r", "kaggle", "somebody")
    run.refresh()
    assert run.row.published is None


def test_memory_and_file_are_the_same_after_every_write_and_after_one_that_failed(run: RunState) -> None:
    def is_as_written() -> bool:
        again = RunState(run.journal, run.journal.run("r"))
        return (again.row, again.sessions, again.totals) == (run.row, run.sessions, run.totals)

    run.add_session(session(1))
    run.update_session(session(1), stage=Stage.CLOSED, step=40)
    run.add_facts(session(1), gained=40)
    run.change_settings(stopped=True)
    run.note("waits", 1, AT, cause="quota", why="none is left", since=1.0, until=9.0)
    assert is_as_written()
    assert run.row.stop_asked

    def fails_in_the_middle() -> None:
        with run.together():
            run.add_session(session(2))
            run.note("pushed", 2, AT, version=2)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fails_in_the_middle()
    assert is_as_written()
    assert run.totals.count == 1
    run.add_session(session(2))
    run.drop_intent(session(2))
    assert is_as_written()


def test_only_the_newest_sessions_are_read_and_the_totals_are_of_all(run: RunState) -> None:
    for number in range(1, 3 * RECENT):
        run.journal.add_session(session(number, step=number))
    read = RunState(run.journal, run.row)
    assert [each.generation for each in read.sessions] == list(range(2 * RECENT, 3 * RECENT))
    assert (read.totals.count, read.totals.step, read.totals.min_step) == (3 * RECENT - 1,) * 3
