"""What a session said as it began is shown where it is this session's, and costs nothing where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.protocol.session_start import SessionStart, Versions
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.started import versions_of

SESSION = SessionRow("run", 2, Stage.ENDED, None, 0, "b" * 64, "", "")
START = SessionStart(
    run_id="run",
    generation=2,
    bundle_sha256="b" * 64,
    device="cpu",
    accelerator=None,
    target=4,
    versions=Versions(python="3.12.13", torch="2.10.0+cu128", numpy="2.0.2\x1b[2J", cuda="12.8"),
).as_json()


def versions_in(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "session_start.json").write_bytes(content)
    return versions_of(folder, SESSION)


def test_the_versions_a_session_said_are_lines_of_text(tmp_path: Path) -> None:
    said = versions_in(tmp_path, json.dumps(START).encode())
    assert said.pop("numpy").isprintable()
    assert said == {"python": "3.12.13", "torch": "2.10.0+cu128", "cuda": "12.8"}, (
        "a driver that is not there is left out"
    )


@pytest.mark.parametrize(
    "change", [{"run_id": "other"}, {"generation": 3}, {"schema": 1}, {"versions": None}, {"versions": {"python": 3}}]
)
def test_what_another_session_or_the_users_code_wrote_is_not_shown(change: dict[str, Any], tmp_path: Path) -> None:
    assert versions_in(tmp_path, json.dumps(START | change).encode()) == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 100_000, b"\xff", b"null"])
def test_rubbish_says_nothing(content: bytes, tmp_path: Path) -> None:
    assert versions_in(tmp_path, content) == {}
    (tmp_path / "session_start.json").unlink()
    assert versions_of(tmp_path, SESSION) == {}
