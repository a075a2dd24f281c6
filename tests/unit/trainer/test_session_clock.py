"""A session stops in time for one more stretch, its save and its last word; never in the middle of a rollout."""

from __future__ import annotations

import os
import signal

import pytest

from kaggle_manager.trainer.runtime.session_clock import SessionClock, session_limit, stop_signals


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_stops_before_a_stretch_as_long_as_the_longest_seen_would_pass_the_deadline() -> None:
    time = Time()
    clock = SessionClock(60.0, epilogue_s=3.0, now=time)
    clock.saved(0.5)
    stretches = [1.0, 10.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    said = clock.why_stop(0)
    for stretch in stretches:
        if said:
            break
        time.now += stretch
        said = clock.why_stop(1)
    remaining = 160.0 - time.now
    assert "time is used up" in said
    # One stretch of 10 s, twice a save of 0.5 s, and 3 s for the epilogue; it did not stop a whole stretch too early.
    assert 14.0 - 2.0 <= remaining <= 14.0


def test_the_deadline_counts_from_the_start_of_the_session_not_of_its_clock() -> None:
    time = Time()
    clock = SessionClock(60.0, now=time, started=time.now - 55.0)
    assert clock.elapsed() == 55.0
    assert "time is used up after 55 s" in clock.why_stop(0)


def test_a_slow_save_is_budgeted_twice() -> None:
    clock = SessionClock(60.0, epilogue_s=3.0, now=Time())
    assert clock.reserve_s() == pytest.approx(7.0), "before the first save one of 2 s is assumed"
    clock.saved(0.1)
    clock.saved(4.0)
    clock.saved(0.1)
    assert clock.reserve_s() == pytest.approx(11.0)


def test_what_a_session_leaves_is_hashed_before_it_ends_and_that_takes_time() -> None:
    clock = SessionClock(600.0, epilogue_s=3.0, now=Time())
    clock.saved(1.0, size=4 * 10**9)
    assert clock.reserve_s() == pytest.approx(2.0 + 3.0 + 40.0), "two checkpoints of 4 GB"
    clock.saved(1.0, size=10**6)
    assert clock.reserve_s() == pytest.approx(5.01)


def test_without_a_deadline_it_never_stops_by_itself() -> None:
    time = Time()
    clock = SessionClock(now=time)
    time.now += 1e9
    assert clock.why_stop(10**9) == ""


def test_a_session_may_be_given_a_number_of_steps() -> None:
    clock = SessionClock(max_steps=100, now=Time())
    assert clock.why_stop(99) == ""
    assert clock.why_stop(100) == "this session was to train 100 timesteps"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_signals_ask_for_a_stop_and_only_the_second_interrupt_interrupts() -> None:
    clock = SessionClock(now=Time())
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals(clock):
        os.kill(os.getpid(), signal.SIGTERM)
        assert clock.why_stop(0) == "asked to stop by SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_lost_terminal_asks_for_a_stop_unless_the_user_said_nohup() -> None:
    clock = SessionClock(now=Time())
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop_signals(clock):
            os.kill(os.getpid(), signal.SIGHUP)
            assert clock.why_stop(0) == ""
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_signals(clock):
            os.kill(os.getpid(), signal.SIGHUP)
            assert clock.why_stop(0) == "asked to stop by SIGHUP"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("15m", 900), ("1.5h", 5400)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert session_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "0", "nan", "inf", "soon"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        session_limit(text)


def test_a_rollout_may_end_after_a_request_to_stop_but_not_go_on_for_ever() -> None:
    time = Time()
    clock = SessionClock(1000.0, epilogue_s=3.0, now=time)
    clock.why_stop(0)
    time.now += 40.0
    clock.why_stop(1)
    assert clock.why_leave_rollout() == ""
    clock.request_stop("asked to stop by SIGTERM")
    time.now += 79.0
    assert clock.why_leave_rollout() == "", "twice the longest rollout so far"
    time.now += 1.0
    assert clock.why_leave_rollout() == "asked to stop by SIGTERM"


def test_a_rollout_is_left_when_only_the_result_can_still_be_written() -> None:
    time = Time()
    clock = SessionClock(100.0, epilogue_s=3.0, now=time)
    time.now += 96.0
    assert clock.why_leave_rollout() == ""
    time.now += 1.0
    assert "time is used up" in clock.why_leave_rollout()
