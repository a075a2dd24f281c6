"""A session's last file is written whatever its error holds, and read by the model that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.errors import CheckpointIncompatible, ConfigError, LineageMismatch
from kaggle_manager.protocol.events import Event, ResultEvent
from kaggle_manager.protocol.file_names import RESULT_FILE
from kaggle_manager.protocol.session_result import SessionResult, parse_result
from kaggle_manager.trainer.runtime.session_files import failure, session_fields, write_result

WHO: dict[str, Any] = {"run_id": "r", "generation": 2, "bundle_sha256": "b"}


def left(working: Path, **facts: Any) -> tuple[SessionResult, list[Event]]:
    told: list[Event] = []
    write_result(working, SessionResult(**WHO, **facts), told.append)
    return parse_result((working / RESULT_FILE).read_bytes(), **WHO), told


def test_it_lists_every_other_file_and_tells_the_end(tmp_path: Path) -> None:
    (tmp_path / "training_tree").mkdir()
    (tmp_path / "training_tree/x").write_bytes(b"abc")
    (tmp_path / RESULT_FILE).write_text("of a try before")
    result, told = left(tmp_path, outcome="completed", exit_code=0, step=7, reason="x" * 5000)
    assert [(file.name, file.size) for file in result.files] == [("training_tree/x", 3)]
    (event,) = told
    assert isinstance(event, ResultEvent)
    assert (event.step, event.output_files, event.run_id, len(event.reason)) == (7, 1, "r", 300)


@pytest.mark.parametrize(
    "message",
    ["file \udce9 is missing", "x" * 9_000_000, "", "é\n\x00"],
    ids=["half a character", "huge", "none", "odd"],
)
def test_an_error_is_kept_whatever_its_message_holds(message: str, tmp_path: Path) -> None:
    result, _ = left(tmp_path, **failure(RuntimeError(message)))
    assert (result.outcome, result.exit_code) == ("crashed", 1)
    assert result.cause.startswith("RuntimeError")
    assert result.reason.encode() or not message, "the journal can store it"


@pytest.mark.parametrize(
    ("error", "outcome", "exit_code"),
    [
        (CheckpointIncompatible("x"), "refused", 7),
        (LineageMismatch("x"), "refused", 3),
        (ConfigError("x"), "refused", 3),
        (KeyboardInterrupt(), "crashed", 1),
    ],
)
def test_an_error_has_its_outcome_and_exit_code(error: BaseException, outcome: str, exit_code: int) -> None:
    facts = failure(error)
    assert (facts["outcome"], facts["exit_code"]) == (outcome, exit_code)


def test_an_output_whose_name_is_no_text_costs_nothing(tmp_path: Path) -> None:
    try:
        (tmp_path / "odd\udce9.csv").write_text("x")
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / "even.csv").write_text("x")
    result, _ = left(tmp_path, outcome="completed", exit_code=0)
    assert [file.name for file in result.files] == ["even.csv"]


@pytest.mark.parametrize("order", [{}, {"run_id": None, "generation": "x"}, {"generation": [], "bundle_sha256": 5}])
def test_an_order_that_cannot_be_read_still_has_a_result(order: dict[str, Any]) -> None:
    SessionResult(**session_fields(order), **failure(ConfigError("no order")))
