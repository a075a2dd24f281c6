"""Every row of the table at the top of lifecycle.py, and the invariants behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.runs.lifecycle import (
    Action,
    Download,
    Finish,
    Observation,
    Push,
    Reconcile,
    SessionView,
    Stage,
    Stop,
    WaitUntil,
    Watch,
    decide,
)
from kaggle_manager.runs.retry_policy import FAILURES_TO_STOP, LONGEST_WAIT_S, POLICIES, FailureKind, wait_after

NOW = 1_000_000.0
FAILING = [kind for kind in FailureKind if kind is not FailureKind.NONE]


def closed(generation: int, failure: str = "", kind: FailureKind = FailureKind.CODE, why: str = "") -> SessionView:
    return SessionView(generation, Stage.CLOSED, failure, kind if failure else FailureKind.NONE, NOW, why)


def seen(step: int, judged: bool, *sessions: SessionView, **what: object) -> Observation:
    return replace(Observation(10, step, judged, sessions=sessions, now=NOW), **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (seen(0, False), Push(1, 0)),
        (seen(4, True, closed(1)), Push(2, 4)),
        (seen(4, True, earlier_generation=7), Push(8, 4)),
        (seen(10, True, closed(1)), Finish(10)),
        (seen(10, True), Finish(10)),
        (seen(10, True, target=5), Finish(10)),
        (seen(10, True, closed(1), target=20), Push(2, 10)),
        # The last step is saved, and the training was never evaluated: one more session does that.
        (seen(10, False, closed(1)), Push(2, 10)),
        (seen(4, True, SessionView(1, Stage.INTENDED)), Reconcile(1)),
        (seen(4, True, closed(1), SessionView(2, Stage.PUSHED)), Watch(2)),
        (seen(4, True, SessionView(3, Stage.ENDED)), Download(3)),
        (seen(4, True, SessionView(3, Stage.ENDED), not_before=NOW + 5, why_wait="x"), WaitUntil(NOW + 5, "x")),
        (seen(4, True, closed(1, "a"), closed(2, "a")), Push(3, 4)),
        (seen(4, True, closed(1, "a"), closed(2, "b"), closed(3, "a")), Push(4, 4)),
        (seen(4, True, closed(1, "a"), closed(2, ""), closed(3, "a")), Push(4, 4)),
        (seen(4, True, closed(1), not_before=NOW + 9, why_wait="quota"), WaitUntil(NOW + 9, "quota")),
        (seen(4, True, closed(1), not_before=NOW), Push(2, 4)),
        (seen(10, True, closed(1), not_before=NOW + 9), Finish(10)),
        (seen(4, True, closed(1), stopped=True), Stop("it was asked to stop")),
        # A stop asked for while a session lives: the session is brought home first.
        (seen(4, True, SessionView(1, Stage.PUSHED), stopped=True), Watch(1)),
        (seen(10, True, closed(1), stopped=True), Finish(10)),
    ],
)
def test_each_row_of_the_table(observation: Observation, action: Action) -> None:
    assert decide(observation) == action


def test_three_equal_code_errors_stop_and_say_which() -> None:
    failures = (closed(n, "KeyError: N", why=f"crashed: KeyError: {n}; 0 steps gained") for n in (1, 2, 3))
    action = decide(seen(4, True, *failures))
    assert isinstance(action, Stop)
    assert "3 sessions in a row ended with the same failure: crashed: KeyError: 3;" in action.why
    assert "KeyError: N" not in action.why, "what failures are recognised by is not what happened"
    assert action.kind is FailureKind.CODE


def test_a_quick_run_stops_at_the_first_error_of_its_code_and_bears_with_the_platform() -> None:
    def after_one(kind: FailureKind) -> Action:
        return decide(replace(seen(0, False, closed(1, "ImportError: no module", kind)), rehearsal=True))

    action = after_one(FailureKind.CODE)
    assert isinstance(action, Stop)
    assert "A session ended" in action.why
    assert not isinstance(after_one(FailureKind.PLATFORM), Stop)


@pytest.mark.parametrize("kind", FAILING)
def test_each_kind_of_failure_has_its_own_budget_and_its_own_pause(kind: FailureKind) -> None:
    tries = POLICIES[kind].tries
    last = decide(seen(4, True, *(closed(n, "f", kind) for n in range(tries))))
    assert isinstance(last, Stop)
    assert last.kind is kind
    if tries == 1:
        return
    action = decide(seen(4, True, *(closed(n, "f", kind) for n in range(1, tries))))
    pause = wait_after(kind, tries - 1)
    if pause == 0:
        assert isinstance(action, Push)
    else:
        assert isinstance(action, WaitUntil)
        assert action.time == NOW + pause
        later = [replace(closed(n, "f", kind), ended_at=NOW - pause) for n in range(1, tries)]
        assert isinstance(decide(seen(4, True, *later)), Push)


def test_a_pause_says_what_happened_and_not_what_it_is_recognised_by() -> None:
    failed = closed(1, "HTTP N", FailureKind.PLATFORM, "refused: HTTP 502")
    action = decide(seen(4, True, failed))
    assert isinstance(action, WaitUntil)
    assert "refused: HTTP 502" in action.why
    assert "HTTP N" not in action.why


def test_pauses_double_and_end_at_an_hour() -> None:
    pauses = [wait_after(FailureKind.PLATFORM, n) for n in range(1, 9)]
    assert pauses[:3] == [300, 600, 1200]
    assert max(pauses) == LONGEST_WAIT_S


@pytest.mark.parametrize("ahead_s", [120.0, 30 * 86400.0, 1e8])
def test_a_clock_that_was_ahead_when_a_session_ended_holds_nothing_up(ahead_s: float) -> None:
    future = replace(closed(1, "f", FailureKind.PLATFORM), ended_at=NOW + ahead_s)
    assert isinstance(decide(seen(4, True, future)), Push), "else each look would wait anew, until the clock is there"


def test_many_failures_stop_however_they_differ() -> None:
    different = [closed(n, f"failure {n}") for n in range(1, FAILURES_TO_STOP + 1)]
    assert isinstance(decide(seen(4, True, *different)), Stop)
    different[2] = closed(3)
    assert decide(seen(4, True, *different)) == Push(FAILURES_TO_STOP + 1, 4)


def test_a_target_already_reached_is_finished_whatever_failed_before() -> None:
    assert decide(seen(10, True, *(closed(n, "x") for n in (1, 2, 3)))) == Finish(10)


views = st.builds(
    lambda stage, failure, kind, ended: SessionView(
        0, stage, failure, kind if failure else FailureKind.NONE, ended if stage is Stage.CLOSED else None
    ),
    st.sampled_from(Stage),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(FAILING),
    st.floats(NOW - 1e5, NOW + 1e5),
)


@given(
    target=st.integers(1, 100),
    step=st.integers(0, 100),
    judged=st.booleans(),
    earlier=st.integers(0, 5),
    raw=st.lists(views, max_size=10),
    not_before=st.floats(NOW - 1e5, NOW + 1e6),
    stopped=st.booleans(),
)
def test_never_a_push_beside_an_open_session_never_a_generation_twice_never_before_its_time(
    target: int,
    step: int,
    judged: bool,
    earlier: int,
    raw: list[SessionView],
    not_before: float,
    stopped: bool,
) -> None:
    sessions = [replace(view, generation=n) for n, view in enumerate(raw, start=earlier + 1)]
    action = decide(Observation(target, step, judged, earlier, sessions, NOW, not_before, "why", stopped))
    if isinstance(action, Push):
        assert not sessions or sessions[-1].stage is Stage.CLOSED
        assert action.generation not in {session.generation for session in sessions}
        assert action.generation > earlier
        assert action.min_step == step
        assert not_before <= NOW
        assert not stopped
        assert step < target or not judged, "a session to train nothing"
    if isinstance(action, Finish):
        assert step >= target
    if isinstance(action, WaitUntil):
        assert action.time > NOW
        assert action.why
    if isinstance(action, Stop):
        assert action.why


def test_sessions_that_were_too_short_are_not_called_one_failure() -> None:
    why = "interrupted (time is used up); 0 steps gained; its limit of 60 s leaves 20 s after start and margin"
    failures = (
        replace(closed(n, "ended before it could gain a step", why=why), kind=FailureKind.NO_PROGRESS)
        for n in (1, 2, 3)
    )
    action = decide(seen(4, True, *failures))
    assert isinstance(action, Stop)
    assert action.why.startswith("3 sessions in a row gained nothing: interrupted")
    assert "leaves 20 s" in action.why
