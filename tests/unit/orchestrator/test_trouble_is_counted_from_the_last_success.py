"""Patience with the platform begins anew with every success, and neither sleep nor a set clock uses it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.errors import Unavailable
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import passes
from kaggle_manager.orchestrator.passes import Passes
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Finish, Push, Stage, WaitUntil, Watch
from kaggle_manager.runs.retry_policy import LASTING_S
from kaggle_manager.runs.rows import RunRow, SessionRow, Trouble
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.system.formatting import iso

HOUR = 3600.0
BEGAN = 1_800_000_000.0
ROW = RunRow("a" * 32, "small", "little_task", 4, False, "tree", "local", "me", "slug", iso(BEGAN))


@pytest.fixture
def now() -> list[float]:
    return [BEGAN]


@pytest.fixture
def run(tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunContext]:
    """An opened run with a real journal; what it observes is scripted."""
    quiet: Any = SimpleNamespace(line=lambda *_: None, phase=lambda *_: None, warn=lambda *_: None)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(ROW)
        state = RunState(journal, journal.run(ROW.run_id))
        monkeypatch.setattr(RunContext, "observe", lambda run: None)
        nothing: Any = None
        yield RunContext(nothing, nothing, state, quiet, lambda: now[0], 0)


def passes_of(steps: Iterator[Callable[[], bool]], now: list[float], monkeypatch: pytest.MonkeyPatch) -> Passes:
    """The real loop; what a watch comes to is scripted, and after the last one the run is finished."""

    def watch(*_: Any, **__: Any) -> bool:
        return next(steps)()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    carried_on: Any = lambda *_: None  # noqa: E731
    made = Passes(carried_on, Notifier(), carried_on, sleep, lambda: now[0], carried_on)
    monkeypatch.setattr(made, "_watch", watch)
    monkeypatch.setattr(made, "_finish", lambda run: "finished")
    monkeypatch.setattr(passes, "describe_run", lambda state, at: "described")
    return made


def trouble() -> bool:
    raise Unavailable("no answer")


def test_a_day_of_patience_is_a_day_without_success_not_a_day_since_the_first_trouble(
    run: RunContext, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hours_of_work() -> bool:
        now[0] += 25 * HOUR
        return True

    actions = iter([Watch(1)] * 12 + [Finish(4)])
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: next(actions))
    steps = iter([trouble, hours_of_work] * 6)
    assert passes_of(steps, now, monkeypatch).until_done(run) == "finished"  # type: ignore[comparison-overlap]
    assert run.row.trouble is None


def test_trouble_that_lasts_a_day_is_raised(run: RunContext, now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: Watch(1))
    with pytest.raises(Unavailable):
        passes_of(iter([trouble] * 1000), now, monkeypatch).until_done(run)
    assert LASTING_S <= now[0] - BEGAN < LASTING_S + HOUR
    assert run.row.trouble is not None
    assert run.row.trouble.is_lasting


@pytest.mark.parametrize("jump_s", [25 * HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR])
def test_a_suspended_machine_or_a_clock_that_is_set_uses_up_no_patience(
    jump_s: float, run: RunContext, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble_around_a_jump() -> bool:
        now[0] += jump_s
        raise Unavailable("no answer")

    slept: list[float] = []
    actions = iter([Watch(1)] * 5 + [Finish(4)])
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: next(actions))
    steps = iter([trouble, trouble_around_a_jump, trouble, trouble, lambda: True])
    made = passes_of(steps, now, monkeypatch)
    made.sleep = lambda seconds: (slept.append(seconds), now.__setitem__(0, now[0] + seconds))[0]  # type: ignore[func-returns-value]
    assert made.until_done(run) == "finished"  # type: ignore[comparison-overlap]
    assert sum(slept) < HOUR


def test_a_wait_is_not_longer_for_a_clock_that_is_set_back_in_it_and_over_when_the_machine_wakes_after_it(
    run: RunContext, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for jump_s, most_s in ((-30 * 24 * HOUR, 600.0), (30 * 24 * HOUR, 60.0)):
        slept: list[float] = []

        def sleep(seconds: float, jump_s: float = jump_s, slept: list[float] = slept) -> None:
            now[0] += seconds + jump_s * (not slept)
            slept.append(seconds)

        actions = iter([WaitUntil(now[0] + 600.0, "a while"), Finish(4)])
        monkeypatch.setattr(passes.lifecycle, "decide", lambda observation, actions=actions: next(actions))
        made = passes_of(iter([]), now, monkeypatch)
        made.sleep = sleep
        assert made.until_done(run) == "finished"  # type: ignore[comparison-overlap]
        assert sum(slept) == most_s


@pytest.mark.parametrize(("action", "is_over"), [(Push(2, 0), False), (Watch(1), True), (WaitUntil(0.0, ""), True)])
def test_trouble_is_not_over_while_the_push_that_met_it_is_left_out(
    action: Push | Watch | WaitUntil,
    is_over: bool,
    run: RunContext,
    now: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run.state.change(trouble=Trouble("AuthError", "a token expired"))
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: action)
    passes_of(iter([lambda: False]), now, monkeypatch).once(run, may_push=False)
    assert (run.row.trouble is None) == is_over


@pytest.mark.parametrize(("stage", "seen_to"), [(Stage.CLOSED, 2), (Stage.PUSHED, 1), (Stage.ENDED, 1)])
def test_running_it_again_answers_the_failures_that_were_seen_not_that_of_the_session_that_runs(
    stage: Stage, seen_to: int, run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaggle_manager.orchestrator.run_context.settings_of", lambda config: {})
    for generation, at in ((1, Stage.CLOSED), (2, stage)):
        run.state.add_session(SessionRow(ROW.run_id, generation, at, None, 0, "", "", iso(BEGAN)))
    run.go_on()
    assert run.row.seen_to == seen_to
