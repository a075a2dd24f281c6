"""Whatever a session, its log or a kernel's source says, reading it ends in an answer or in a typed error."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import LineageMismatch, OutputDamaged, UnsafePath
from kaggle_manager.platforms.kaggle.names import title_for
from kaggle_manager.protocol.events import ProgressEvent, parse_event
from kaggle_manager.protocol.file_names import RESULT_FILE
from kaggle_manager.protocol.session_result import SessionResult, parse_result
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.bundle import Bundle, order_of, render_script
from kaggle_manager.sessions.download import read_result
from kaggle_manager.sessions.launch import DATASET_SUFFIX, kernel_names
from kaggle_manager.sessions.log_rendering import show_event, show_progress
from kaggle_manager.sessions.outcome import judge, last_traceback_line, normalised_failure
from kaggle_manager.sessions.progress import SessionProgress

# A script takes a twentieth of a second to render.
steady = settings(max_examples=60)
REFUSALS = (OutputDamaged, LineageMismatch, UnsafePath)
GOOD: dict[str, Any] = {
    "schema": SessionResult.SCHEMA,
    "outcome": "crashed",
    "reason": "",
    "exit_code": 1,
    "run_id": "r",
    "generation": 1,
    "bundle_sha256": "b",
    "error": {"type": "ValueError", "message": "no", "last_line": "ValueError: no"},
    "counts": {"updates": 1},
    "files": [{"name": "training_tree/a", "size": 1, "sha256": "0" * 64}],
}
SESSION = SessionRow("r", 1, Stage.ENDED, None, 0, "b", "", "")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(content: bytes) -> SessionResult | None:
    try:
        return parse_result(content, run_id="r", generation=1, bundle_sha256="b")
    except REFUSALS:
        return None


@steady
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_result_or_damage(content: bytes) -> None:
    assert read(content) is None


@steady
@given(st.sampled_from(sorted(GOOD)), json_values)
def test_a_result_with_one_strange_field_is_read_or_refused_and_its_end_is_put_in_words(name: str, value: Any) -> None:
    result = read(json.dumps({**GOOD, name: value}).encode())
    if result is not None:
        ended = judge(
            result=result, platform_says="", log=str(value), step_before=3, step_after=3, target_reached=False
        )
        assert ended.failure
        assert ended.why.count("\n") == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=60))
def test_a_file_name_is_inside_its_folder_or_refused(name: str, tmp_path: Path) -> None:
    content = json.dumps({**GOOD, "files": [{"name": name, "size": 1, "sha256": "0" * 64}]})
    (tmp_path / RESULT_FILE).write_text(content, encoding="utf-8")
    try:
        result = read_result(tmp_path, SESSION)
    except REFUSALS:
        return
    if result is not None:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\\" not in name


def test_names_that_differ_in_capitals_alone_are_damage() -> None:
    entry = GOOD["files"][0]
    assert read(json.dumps({**GOOD, "files": [entry, {**entry, "name": "training_tree/A"}]}).encode()) is None


kinds = st.sampled_from(["KM_BUNDLE", "KM_SESSION", "KM_PROGRESS", "KM_EVAL", "KM_RESULT", "KM_RESUME", ""])
fields = st.sampled_from(["step", "target", "steps_per_s", "reward", "checkpoint", "score", "episodes", "sha256"])


@steady
@given(kinds, st.dictionaries(fields, json_values | st.just(10**400), max_size=4) | st.text(max_size=30))
def test_any_log_line_can_be_shown(kind: str, body: Any) -> None:
    shown = io.StringIO()
    text = body if isinstance(body, str) else json.dumps({"session": "r/1", **body})
    event, reporter = parse_event(f"{kind} {text}", "r/1"), Reporter(shown)
    if event is None:
        reporter.kernel(f"{kind} {text}")
    elif isinstance(event, ProgressEvent):
        show_progress(SessionProgress().after_event(event, 0.0, bundle_sha256=""), reporter, left_s=10.0, now=True)
    else:
        show_event(event, reporter, "0" * 64)
    assert all(character.isprintable() or character in "\t\n" for character in shown.getvalue())


@steady
@given(st.text(max_size=200))
def test_any_source_has_an_order_or_none(text: str) -> None:
    assert order_of(text) is None
    assert order_of(f"            order=json.loads({text}),\n") in (None, {})


@steady
@given(st.text(max_size=200))
def test_any_log_has_a_last_line_and_a_fingerprint_of_one_line(text: str) -> None:
    assert "\n" not in last_traceback_line(text)
    fingerprint = normalised_failure(text)
    assert len(fingerprint) <= 300
    assert normalised_failure(fingerprint) == normalised_failure(normalised_failure(fingerprint))


def test_failures_that_differ_in_hashes_and_temporary_names_alone_are_alike() -> None:
    one = "LineageMismatch: manifest: asked 3fa85f64b717, mounted 0f4d1c9e2a77 in /tmp/tmpab12cd34/x"
    two = "LineageMismatch: manifest: asked 99c85f64b7aa, mounted 1111119e2a77 in /tmp/tmpzz99yy88/x"
    assert normalised_failure(one) == normalised_failure(two)


@steady
@given(st.dictionaries(st.text(max_size=10), json_values.filter(lambda value: value == value), max_size=4))
def test_the_order_in_a_kernel_script_reads_back(order: dict[str, Any]) -> None:
    script = render_script(Bundle(b"", "0" * 64, ()), order)
    assert order_of(script) == json.loads(json.dumps(order))


@steady
@given(st.text(max_size=80), st.uuids())
def test_every_name_of_a_scenario_gives_a_name_on_kaggle(scenario: str, run_id: UUID) -> None:
    names = kernel_names(scenario, run_id.hex)
    assert [title_for(slug, shortest=5) for slug in names] == [slug.replace("-", " ") for slug in names]
    assert title_for(f"{names[0]}{DATASET_SUFFIX}", shortest=6)
    assert len(set(names)) == len(names) == 9
    assert kernel_names("a__b", run_id.hex)[:2] == kernel_names("a_b", run_id.hex)[:2]
    assert kernel_names("a_b", run_id.hex)[:2] == (f"km-a-b-{run_id.hex[-8:]}", f"km-a-b-{run_id.hex[-8:]}-2")


def test_every_lineage_has_a_kernel_of_its_own() -> None:
    runs = ["local-12ab34cd", "local-12ab34ce", "0" * 31 + "1", "0" * 31 + "2"]
    slugs = {slug for run in runs for slug in kernel_names("traffic_light_control", run)}
    assert len(slugs) == 9 * len(runs)
    assert all(len(slug) <= 50 and slug.replace("-", "").isalnum() for slug in slugs)
