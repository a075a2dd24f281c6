"""The SQL statements of a pass do not depend on how many sessions a run has had."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path
from typing import Any

import pass_cost
import pytest

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.platforms.platform import SessionRef, SessionState, SessionStatus
from kaggle_manager.runs.run_state import RECENT
from kaggle_manager.sessions.connection import Connection


def statements_of_a_pass(folder: Path, sessions: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    pass_cost.make_run(folder, sessions, SessionRef("me", "slug", "1"))
    manager = ValidationKaggleManager(
        platform="local",
        project_root=folder,
        reporter=Reporter(io.StringIO()),
        connect_to=lambda config: Connection(None, "me", "local", "a test"),  # type: ignore[arg-type]
        notifier=Notifier(),
        watch_session=lambda *arguments, **options: SessionStatus(SessionState.RUNNING, "", "RUNNING"),
    )
    counted: list[str] = []
    connect = sqlite3.connect

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(counted.append)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", counting)
        assert manager.tick(pass_cost.SECTION).state == "running"
    return counted


def test_a_pass_beside_many_sessions_makes_as_many_statements_as_one_beside_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = statements_of_a_pass(tmp_path / "few", 2, monkeypatch)
    many = statements_of_a_pass(tmp_path / "many", 3 * RECENT, monkeypatch)
    assert len(few) == len(many)
    assert sum("FROM sessions" in statement and "LIMIT" in statement for statement in many) <= 3
    assert not any("FROM events" in statement for statement in many), "what a decision needs is in the run's row"
