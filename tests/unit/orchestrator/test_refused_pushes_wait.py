"""A refusal that may pass by itself is waited out, also when the user runs it again, and no longer than it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.errors import ConfigError, NoVersionShown, Unavailable
from kaggle_manager.orchestrator import first_push, room
from kaggle_manager.orchestrator.image import DOUBT_WAIT_S, Refusal, push_in_its_image
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.launch import kernel_names
from kaggle_manager.system.formatting import iso

BEGAN = 1_800_000_000.0
ROW = RunRow("a" * 32, "small", "little_task", 4, False, "tree", "local", "me", "slug", iso(BEGAN))
FIRST = SessionRow(ROW.run_id, 1, Stage.INTENDED, None, 0, "b", "", started_at=iso(BEGAN))


@pytest.fixture
def now() -> list[float]:
    return [BEGAN]


@pytest.fixture
def run(tmp_path: Path, now: list[float]) -> Iterator[RunContext]:
    quiet: Any = SimpleNamespace(line=lambda *_: None, warn=lambda *_: None)
    nothing: Any = None
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.add_run(ROW)
        yield RunContext(nothing, nothing, RunState(journal, journal.run(ROW.run_id)), quiet, lambda: now[0], 0)


def test_the_first_refusal_waits_ten_minutes_however_long_room_was_looked_for_before(run: RunContext) -> None:
    for _ in range(12):
        run.postpone(room.NO_ROOM, "full", room.ROOM_WAIT_S, room.ROOM_LONGEST_S)
    first_push.wait_after_refusal(run, FIRST, room.NO_ROOM, "refused")
    assert run.waits_until - BEGAN == 600


@pytest.mark.parametrize("cause", [room.NO_ROOM, first_push.NOT_FOUND])
def test_a_user_who_runs_it_again_at_once_does_not_use_up_the_names(
    run: RunContext, now: list[float], cause: str
) -> None:
    assert first_push.has_waited(run)
    first_push.wait_after_refusal(run, FIRST, cause, "refused")
    now[0] += 60
    run.note("continued", 0)
    assert run.waits_until == 0
    assert not first_push.has_waited(run)
    assert run.waits_until == BEGAN + 600
    now[0] = run.waits_until
    assert first_push.has_waited(run)


def test_a_user_who_runs_it_again_at_once_does_not_move_the_run_to_another_image(
    run: RunContext, now: list[float]
) -> None:
    asked: list[str] = []

    def start(push: SessionRequest) -> StartedSession:
        asked.append(push.image)
        if push.image:
            raise ConfigError("Kaggle refused to start me/slug: try later")
        return StartedSession(SessionRef("me", "slug", "2"), "")

    run.connection = SimpleNamespace(client=SimpleNamespace(start=start))  # type: ignore[assignment]
    run.state.add_session(FIRST)
    pinned, unpinned = (SessionRequest("me", "slug", "print(1)", image=image) for image in ("sha256:" + "a" * 64, ""))

    def pushed_after(seconds: float) -> object:
        now[0] = BEGAN + seconds
        run.note("continued", 0)
        return push_in_its_image(run, FIRST, pinned, otherwise=lambda: unpinned)

    assert isinstance(pushed_after(0), Refusal)
    assert isinstance(pushed_after(10), Refusal)
    assert isinstance(pushed_after(DOUBT_WAIT_S - 1), Refusal)
    assert "" not in asked
    assert isinstance(pushed_after(DOUBT_WAIT_S), StartedSession)


def test_a_clock_that_is_set_ahead_is_no_patience_with_a_kernel_that_shows_no_version(
    run: RunContext, now: list[float]
) -> None:
    shown = NoVersionShown("none yet")
    client = SimpleNamespace(shows_nothing_of=lambda *_: True, page=lambda *_: "")
    run.connection = SimpleNamespace(client=client)  # type: ignore[assignment]
    first, following = kernel_names(ROW.scenario, ROW.run_id)[:2]
    run.state.change(slug=first)
    run.state.change_settings(uncertain=first)
    for step in (0.0, 6 * 3600.0, *[600.0] * 4):
        now[0] += step
        with pytest.raises(Unavailable, match=r"empty when it has looked so for an hour"):
            first_push.leave_empty(run, shown, FIRST)
    now[0] += 600.0
    first_push.leave_empty(run, shown, FIRST)
    assert run.row.slug == following, "it takes its next name after an hour of looks"
