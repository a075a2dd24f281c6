"""`trainer/entry.py` imports nothing of the project, so what it repeats of the protocol is held to the models here."""

from __future__ import annotations

import ast
import inspect
import json
import platform
import sys
from pathlib import Path

import pytest

from kaggle_manager.protocol import events, file_names, session_result
from kaggle_manager.protocol.events import ResultEvent, parse_event, session_tag
from kaggle_manager.protocol.lanes import lane_name, line_of
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.protocol.session_result import LARGEST_RESULT_BYTES, SessionError, SessionResult, parse_result
from kaggle_manager.sessions.outcome import KINDS_BY_ERROR
from kaggle_manager.trainer import entry
from kaggle_manager.trainer.runtime import output_folder, session_files

TREE = ast.parse(inspect.getsource(entry))
MODELS = {each.kind: each for each in events.Event.__args__}
ORDER = {"run_id": "3fa85f64b7170f4d", "generation": 2, "bundle_sha256": "b" * 64}


def calls(name: str) -> list[ast.Call]:
    return [node for node in ast.walk(TREE) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_it_imports_the_standard_library_only() -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(TREE)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert imported <= set(sys.stdlib_module_names)


def test_its_constants_are_the_models() -> None:
    assert (entry.RESULT_FILE, entry.RESULT_SCHEMA) == (file_names.RESULT_FILE, SessionResult.SCHEMA)
    assert (entry.TREE_FOLDER, entry.LARGEST_RESULT_BYTES) == (file_names.TREE_FOLDER, LARGEST_RESULT_BYTES)
    assert (entry.CRASHED, entry.REFUSED) == (session_result.CRASHED, session_result.REFUSED)
    assert entry.LONGEST_EVENT_REASON == session_files.LONGEST_EVENT_REASON
    assert entry.LEFT_SHARE == output_folder.LEFT_SHARE


def test_each_event_it_writes_has_the_kind_and_the_fields_of_its_model() -> None:
    written = {ast.literal_eval(call.args[1]): {each.arg for each in call.keywords} for call in calls("emit")}
    assert set(written) == {"KM_BUNDLE", "KM_SESSION", "KM_RESULT"}
    assert written == {kind: set(MODELS[kind].model_fields) for kind in written}
    literals = {node.value for node in ast.walk(TREE) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    told = {"KM_WORKING_DIR", "KM_MACHINE_NAME"}
    assert {text for text in literals if text.startswith("KM_")} == set(written) | told, "none is written another way"


def test_it_knows_no_field_that_an_order_has_not() -> None:
    asked = {ast.literal_eval(call.args[0]) for call in calls("order.get")}
    asked |= {
        ast.literal_eval(node.slice)
        for node in ast.walk(TREE)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "order"
    }
    added = {
        key.value
        for node in ast.walk(TREE)
        if isinstance(node, ast.Dict) and any(key is None and ast.unparse(v) == "order" for key, v in items(node))
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert added == {"elapsed_s", "trainer_started"}
    assert asked | added <= set(LaunchOrder.model_fields)


def items(node: ast.Dict) -> list[tuple[ast.expr | None, ast.expr]]:
    return list(zip(node.keys, node.values, strict=True))


def test_the_errors_it_names_are_those_the_manager_has_a_policy_for() -> None:
    named = {
        ast.literal_eval(keyword.value)
        for call in calls("give_up")
        for keyword in call.keywords
        if keyword.arg == "error"
    }
    assert named == {"BundleDamaged", "InstallFailed", "PackagesRefused", "WheelsUnfit"}
    assert named <= set(KINDS_BY_ERROR)


@pytest.mark.parametrize("error", ["", "InstallFailed"])
def test_a_result_it_leaves_is_one_and_so_is_its_event(
    error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path))
    outcomes = {ast.literal_eval(call.args[1]) for call in calls("give_up")}
    assert outcomes == {"refused", "crashed"}
    for outcome in outcomes:
        assert entry.give_up([ORDER], outcome, "why", 3, error=error) == 3
        content = (tmp_path / file_names.RESULT_FILE).read_bytes()
        result = parse_result(content, **ORDER)  # type: ignore[arg-type]
        assert (result.outcome, result.reason, result.exit_code) == (outcome, "why", 3)
        assert result.python == platform.python_version(), "the next session's wheels are for it"
        assert (result.error.type if result.error else "") == error
        body = json.loads(content)
        assert set(body) - {"schema"} <= set(SessionResult.model_fields), "no field that is not read"
        assert set(body["error"] or {}) <= set(SessionError.model_fields)
        said = capsys.readouterr().out
        (event,) = [found for line in said.splitlines() if (found := parse_event(line, session_tag("3fa85f64b7", 2)))]
        assert isinstance(event, ResultEvent)
        assert (event.outcome, event.output_files, event.run_id) == (outcome, len(result.files), ORDER["run_id"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"[" * 100_000,
        b" " * 5_000_000,
        json.dumps({**ORDER, "generation": 1}).encode(),
        json.dumps({**ORDER, "run_id": "another"}).encode(),
        json.dumps({**ORDER, "bundle_sha256": "a" * 64}).encode(),
    ],
    ids=["empty", "half", "list", "number", "deep", "large", "older", "another run's", "other code's"],
)
def test_a_file_of_the_results_name_is_the_result_only_when_it_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / file_names.RESULT_FILE
    assert not entry.result_of(path, ORDER)
    path.write_bytes(content)
    assert not entry.result_of(path, ORDER)
    path.write_text(json.dumps(ORDER))
    assert entry.result_of(path, ORDER)


def test_its_lines_of_a_lane_are_that_lanes_alone() -> None:
    line = f"{entry.log_prefix({'lane': lane_name(2)})}KM_SESSION"
    assert [line_of(lane, line) for lane in ("lane_2", "lane_1", "")] == ["KM_SESSION", None, line]
    assert entry.log_prefix({"lane": ""}) == ""
    assert line_of("lane_1", "of the machine") == "of the machine", "what no lane says is everybody's"


def test_it_writes_an_event_as_the_trainer_does(capsys: pytest.CaptureFixture[str]) -> None:
    entry.emit(ORDER, "KM_SESSION", container="c-42")
    event = events.ContainerEvent(container="c-42")
    assert capsys.readouterr().out == events.format_event(event, session_tag("3fa85f64b7170f4d", 2))
