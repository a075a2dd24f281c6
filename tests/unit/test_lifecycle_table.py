"""Every row of the table at the top of lifecycle.py, and the invariants behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.lifecycle import (
    Action,
    Fetch,
    Finish,
    Observation,
    Push,
    Reconcile,
    Restore,
    SessionView,
    Stage,
    Stop,
    Watch,
    decide,
)


def closed(generation: int, failure: str = "") -> SessionView:
    return SessionView(generation, Stage.CLOSED, failure)


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (Observation(10, 0, None), Push(1, 0)),
        (Observation(10, 4, None, sessions=[closed(1)]), Push(2, 4)),
        (Observation(10, 4, None, earlier_generation=7), Push(8, 4)),
        (Observation(10, 10, 10, sessions=[closed(1)]), Finish(10)),
        (Observation(10, 10, 10), Finish(10)),
        (Observation(5, 10, 10), Finish(10)),
        # A final model of a smaller target does not finish a larger one.
        (Observation(20, 10, 10, sessions=[closed(1)]), Push(2, 10)),
        # The last step saved but the final model not written yet: one more session writes it.
        (Observation(10, 10, None, sessions=[closed(1)]), Push(2, 10)),
        (Observation(10, 4, None, sessions=[SessionView(1, Stage.INTENDED)]), Reconcile(1)),
        (Observation(10, 4, None, sessions=[closed(1), SessionView(2, Stage.PUSHED)]), Watch(2)),
        (Observation(10, 4, None, sessions=[SessionView(3, Stage.ENDED)]), Fetch(3)),
        (Observation(10, 4, None, sessions=[SessionView(3, Stage.FETCHED)]), Restore(3)),
        (Observation(10, 4, None, sessions=[closed(1, "a"), closed(2, "a")]), Push(3, 4)),
        (Observation(10, 4, None, sessions=[closed(1, "a"), closed(2, "b"), closed(3, "a")]), Push(4, 4)),
        (Observation(10, 4, None, sessions=[closed(1, "a"), closed(2, ""), closed(3, "a")]), Push(4, 4)),
    ],
)
def test_each_row_of_the_table(observation: Observation, action: Action) -> None:
    assert decide(observation) == action


def test_three_equal_failures_stop_and_say_which() -> None:
    action = decide(Observation(10, 4, None, sessions=[closed(n, "KeyError: 'x'") for n in (1, 2, 3)]))
    assert isinstance(action, Stop)
    assert "KeyError: 'x'" in action.why


def test_six_failures_stop_however_they_differ() -> None:
    different = [closed(n, f"failure {n % 4}") for n in range(1, 7)]
    assert isinstance(decide(Observation(10, 4, None, sessions=different)), Stop)
    different[2] = closed(3)
    assert decide(Observation(10, 4, None, sessions=different)) == Push(7, 4)


def test_a_target_already_reached_is_finished_whatever_failed_before() -> None:
    assert decide(Observation(10, 10, 10, sessions=[closed(n, "x") for n in (1, 2, 3)])) == Finish(10)


views = st.builds(SessionView, st.just(0), st.sampled_from(Stage), st.sampled_from(["", "a", "b"]))


@given(
    target=st.integers(1, 100),
    step=st.integers(0, 100),
    final=st.none() | st.integers(0, 100),
    earlier=st.integers(0, 5),
    raw=st.lists(views, max_size=6),
)
def test_never_a_push_beside_an_open_session_and_never_a_generation_twice(
    target: int, step: int, final: int | None, earlier: int, raw: list[SessionView]
) -> None:
    sessions = [SessionView(n, view.stage, view.failure) for n, view in enumerate(raw, start=earlier + 1)]
    action = decide(Observation(target, step, final, earlier, sessions))
    if isinstance(action, Push):
        assert not sessions or sessions[-1].stage is Stage.CLOSED
        assert action.generation not in {session.generation for session in sessions}
        assert action.generation > earlier
        assert action.min_step == step
    if isinstance(action, Finish):
        assert step >= target
