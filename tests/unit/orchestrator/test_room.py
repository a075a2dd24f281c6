"""A run that finds no room stands in line, and those that come later leave it what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_trees import config_in

from kaggle_manager.errors import Unavailable
from kaggle_manager.orchestrator import room
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.runs.slots import STANDS_S
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.system.formatting import iso

BEGAN = 1_800_000_000.0
POOL = "kaggle/me/GPU"


class Account:
    """Two GPU sessions at once, of which so many are live."""

    def __init__(self) -> None:
        self.live_now, self.asked, self.answers = 2, 0, True

    def limits(self) -> Limits:
        return Limits(43_200.0, {"GPU": 2}, 10**6)

    def live(self, owner: str) -> Counter[str]:
        self.asked += 1
        if not self.answers:
            raise Unavailable("no answer")
        return Counter({"GPU": self.live_now})


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def now() -> list[float]:
    return [BEGAN]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite")) as opened:
        yield opened


@pytest.fixture
def run_named(tmp_path: Path, journal: Journal, account: Account, now: list[float]) -> Callable[[str], RunContext]:
    quiet: Any = SimpleNamespace(line=lambda *_: None, warn=lambda *_: None)
    section = config_in(tmp_path).section
    gpu = section.model_copy(update={"kernel": section.kernel.model_copy(update={"accelerator": "NvidiaTeslaT4"})})
    config, connection = replace(config_in(tmp_path), section=gpu), SimpleNamespace(client=account)

    def named(run_id: str) -> RunContext:
        row = RunRow(run_id, "s", "x", 4, False, str(tmp_path / run_id), "kaggle", "me", f"km-{run_id}", iso(BEGAN))
        journal.add_run(row)
        state = RunState(journal, journal.run(run_id))
        return RunContext(config, connection, state, quiet, lambda: now[0], 0)  # type: ignore[arg-type]

    return named


def test_the_one_that_waited_first_goes_first_however_late_it_looks(
    run_named: Callable[[str], RunContext], account: Account, now: list[float], journal: Journal
) -> None:
    early, late = run_named("early"), run_named("a later one")
    assert not room.is_there(early, is_first=True)
    now[0] += 10
    account.live_now = 1
    assert not room.is_there(late, is_first=False), "the free slot is the other's"
    assert "1 run waited for room before this one" in late.row.wait.why  # type: ignore[union-attr]
    assert room.is_there(early, is_first=False)
    assert [place.run_id for place in journal.line(POOL)] == ["early", "a later one"], "until it is accepted"
    early.state.change_settings(in_line=None)
    assert room.is_there(late, is_first=False)


def test_there_may_be_room_for_both(run_named: Callable[[str], RunContext], account: Account) -> None:
    early, late = run_named("early"), run_named("late")
    assert not room.is_there(early, is_first=True)
    account.live_now = 0
    assert room.is_there(late, is_first=False)


@pytest.mark.parametrize("gone", ["stopped", "finished", "looks no more", "another pool"])
def test_nobody_waits_for_one_that_has_left_the_line(
    run_named: Callable[[str], RunContext], account: Account, now: list[float], journal: Journal, gone: str
) -> None:
    early, late = run_named("early"), run_named("late")
    assert not room.is_there(early, is_first=True)
    account.live_now = 1
    if gone == "stopped":
        journal.change_settings("early", stopped=True)
    elif gone == "finished":
        journal.finish_run("early", "finished", iso(now[0]))
    elif gone == "another pool":
        early.state.change_settings(in_line={"pool": "kaggle/me/CPU"})
    else:
        now[0] += STANDS_S + 1
    assert room.is_there(late, is_first=False)


def test_the_platform_is_asked_only_where_a_refusal_costs_or_others_wait(
    run_named: Callable[[str], RunContext], account: Account
) -> None:
    alone = run_named("alone")
    assert room.is_there(alone, is_first=False), "the push itself is tried"
    assert account.asked == 0
    account.answers = False
    assert room.is_there(alone, is_first=True), "taken to be there"
    assert account.asked == 1


def test_a_report_says_that_it_stands_in_line_as_long_as_it_does(
    run_named: Callable[[str], RunContext], now: list[float]
) -> None:
    waits = run_named("waits")
    assert not describe_run(waits.state, now[0]).in_line
    assert not room.is_there(waits, is_first=True)
    assert [describe_run(waits.state, now[0] + after).in_line for after in (0, 60, STANDS_S + 1)] == [True, True, False]
