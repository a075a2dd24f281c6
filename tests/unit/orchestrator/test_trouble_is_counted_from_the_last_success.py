"""Patience with the platform begins anew with every success; what a pass left out is not called overcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.errors import Unavailable
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import passes
from kaggle_manager.orchestrator.passes import TROUBLE_PATIENCE_S, Passes
from kaggle_manager.runs.lifecycle import Finish, Push, Watch
from kaggle_manager.runs.rows import Trouble


class Run(SimpleNamespace):
    """Stands where an opened run does, and remembers what was noted."""

    def __init__(self) -> None:
        quiet = SimpleNamespace(line=lambda *_: None, phase=lambda *_: None, warn=lambda *_: None)
        row = SimpleNamespace(trouble=Trouble("AuthError", "a token expired"))
        super().__init__(reporter=quiet, row=row, config=None, connection=None, waits_until=0.0, state=None, noted=[])

    def observe(self) -> None: ...

    def postpone(self, *_: Any) -> None: ...

    def waits_for_quota(self) -> bool:
        return False

    def note(self, kind: str, **_: Any) -> None:
        self.noted.append(kind)


def passes_of(steps: Iterator[Callable[[], bool]], now: list[float], monkeypatch: pytest.MonkeyPatch) -> Passes:
    """The real loop; what a watch comes to is scripted, and after the last one the run is finished."""

    def watch(*_: Any, **__: Any) -> bool:
        return next(steps)()

    carried_on: Any = lambda *_: None  # noqa: E731
    made = Passes(carried_on, Notifier(), carried_on, carried_on, lambda: now[0], carried_on)
    monkeypatch.setattr(made, "_watch", watch)
    monkeypatch.setattr(made, "_finish", lambda run: "finished")
    monkeypatch.setattr(passes, "describe_run", lambda state, at: "described")
    return made


def test_a_day_of_patience_is_a_day_without_success_not_a_day_since_the_first_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000_000.0]

    def trouble() -> bool:
        raise Unavailable("no answer")

    def two_days_of_work() -> bool:
        now[0] += 2 * TROUBLE_PATIENCE_S
        return True

    actions = iter([Watch(1)] * 4 + [Finish(4)])
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: next(actions))
    steps = iter([trouble, two_days_of_work, trouble, lambda: True])
    assert passes_of(steps, now, monkeypatch).until_done(Run()) == "finished"  # type: ignore[arg-type,comparison-overlap]


def test_trouble_that_lasts_a_day_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]

    def trouble() -> bool:
        now[0] += 3600.0
        raise Unavailable("no answer")

    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: Watch(1))
    made = passes_of(iter([trouble] * 100), now, monkeypatch)
    with pytest.raises(Unavailable):
        made.until_done(Run())  # type: ignore[arg-type]
    assert now[0] > 1_000_000.0 + TROUBLE_PATIENCE_S


@pytest.mark.parametrize(("action", "noted"), [(Push(2, 0), []), (Watch(1), ["recovered"])])
def test_trouble_is_not_over_while_the_push_that_met_it_is_left_out(
    action: Push | Watch, noted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes.lifecycle, "decide", lambda observation: action)
    run = Run()
    passes_of(iter([lambda: False]), [0.0], monkeypatch).once(run, may_push=False)  # type: ignore[arg-type]
    assert run.noted == noted
