"""A preflight says what goes on while it measures, and what it found in the end."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions import preflight as module


def test_it_is_never_silent_for_long_and_ends_with_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    found = {"name": "mine: saves", "ok": True, "detail": "yes"}
    kept = {"name": "mine: queues", "ok": True, "detail": "told at its end"}

    def slow(*_: Any, on_result: Callable[[Any], None], on_wait: Callable[[], None], **__: Any) -> dict[str, Any]:
        for second in range(25):
            now[0] = float(second)
            on_wait()
            if second == 12:
                on_result(found)
        return {"ok": True, "checks": [found, kept]}

    monkeypatch.setattr(module, "check_section", slow)
    reporter = Reporter(told := io.StringIO(), clock=lambda: now[0])
    module.shown(reporter, tmp_path, new_section("mine", tmp_path).section, ["mine"])
    lines = told.getvalue().splitlines()
    assert sum("0 checks so far" in line for line in lines) == 3, "at 0, 5 and 10 s"
    assert sum("1 check so far" in line for line in lines) == 2
    assert lines[-2:] == ["ok      mine: queues: told at its end", "2 checks: 2 ok, no warnings, none failed"]
    assert "ok      mine: saves: yes" in lines
