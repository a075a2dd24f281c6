"""When a run is over before its target: decided from the journal, for one target and one `stop_when`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kaggle_manager.config import RunConfig
from kaggle_manager.orchestrator import stop_early
from kaggle_manager.runs import lifecycle
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Observation, Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sections.fields import AgentStopWhen

HOUR = 3600.0
RUN = RunRow("run", "s", "one", 1000, False, "/tree", "local", "me", "slug", "2026-01-01T00:00:00+00:00")


class Config:
    """What is looked at of a run's configuration."""

    def __init__(self, target: int, **stop_when: float) -> None:
        self.target = target
        self.scenario = type("Scenario", (), {"stop_when": AgentStopWhen(**stop_when)})()


def config(target: int = 1000, **stop_when: float) -> RunConfig:
    return cast(RunConfig, Config(target, **stop_when))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        opened.add_run(RUN)
        yield opened


def lasted(journal: Journal, *hours: float, **facts: Any) -> RunState:
    """The run after sessions that lasted so long; the newest one has `facts`."""
    before = len(journal.sessions("run"))
    for number, each in enumerate(hours, start=before + 1):
        of = {"ran_s": each * HOUR} | (facts if number == before + len(hours) else {})
        journal.add_session(SessionRow("run", number, Stage.CLOSED, None, 0, "", "", RUN.created_at, facts=of))
    return RunState(journal, RUN)


def test_hours_are_over_when_no_session_is_worth_what_is_left(journal: Journal) -> None:
    bound = config(session_hours=10)
    assert stop_early.why(lasted(journal, 4), bound) == ""
    assert stop_early.left_s(RunState(journal, RUN), bound) == 6 * HOUR
    found = stop_early.why(lasted(journal, 5.95), bound)
    assert found == "its sessions have lasted 9.95 h, and stop_when.session_hours is 10"
    assert stop_early.why(RunState(journal, RUN), bound) == found, "it was written down"


def test_another_target_has_the_hours_anew_and_another_bound_counts_what_was_used(journal: Journal) -> None:
    assert stop_early.why(lasted(journal, 5, 5), config(session_hours=10))
    state = RunState(journal, RUN)
    assert stop_early.why(state, config(session_hours=12)) == ""
    assert stop_early.left_s(state, config(session_hours=12)) == 2 * HOUR
    assert stop_early.why(state, config(2000, session_hours=10)) == ""
    assert stop_early.left_s(lasted(journal, 3), config(2000, session_hours=10)) == 7 * HOUR


def test_a_run_without_a_bound_or_a_session_is_not_over(journal: Journal) -> None:
    assert stop_early.why(RunState(journal, RUN), config(session_hours=0.001)) == ""
    assert stop_early.why(lasted(journal, 1e6), config()) == ""


@pytest.mark.parametrize(("step", "action"), [(40, lifecycle.Finish(40)), (0, lifecycle.Stop("enough"))])
def test_what_is_over_early_is_finished_where_something_is_saved(step: int, action: lifecycle.Action) -> None:
    seen = Observation(target=100, step=step, judged=False, early="enough")
    assert lifecycle.decide(seen) == action
    assert isinstance(lifecycle.decide(replace(seen, early="")), lifecycle.Push)
