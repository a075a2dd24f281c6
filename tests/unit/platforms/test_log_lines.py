"""A kernel's log is read as far as it can be, and the trainer's lines in it are recognised exactly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.platforms.kaggle.log_lines import LogLine, TrainerEvent, parse_event, parse_log

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (f"KM_BUNDLE sha256={HASH}", TrainerEvent("KM_BUNDLE", {"sha256": HASH})),
        ("KM_SESSION container=kaggle-session-42", TrainerEvent("KM_SESSION", {"container": "kaggle-session-42"})),
        ('KM_PROGRESS {"step": 5, "reward": NaN}', "KM_PROGRESS"),
        ('KM_RESUME {"step": 5}\r\n', TrainerEvent("KM_RESUME", {"step": 5})),
        ('  KM_RESULT {"outcome": "completed"}', TrainerEvent("KM_RESULT", {"outcome": "completed"})),
        ("KM_EVAL {}", TrainerEvent("KM_EVAL", {})),
    ],
)
def test_an_event_is_recognised(text, event):
    parsed = parse_event(text)
    assert parsed == event or parsed.kind == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step 5",
        "KM_PROGRESS",
        "KM_PROGRESS {",
        "KM_PROGRESS 5",
        "KM_PROGRESS [1]",
        "KM_BUNDLE sha256=xyz",
        f"KM_BUNDLE sha256={HASH} and more",
        "KM_SESSION",
        "KM_OTHER {}",
        'said KM_PROGRESS {"step": 5}',
        "KM_PROGRESS " + "[" * 100_000,
    ],
)
def test_anything_else_is_no_event(text):
    assert parse_event(text) is None


@given(st.text())
def test_no_text_breaks_the_parsers(text):
    parse_event(text)
    parse_event(f"KM_PROGRESS {text}")
    parse_log(text)


EVENTS = [
    {"stream_name": "stdout", "time": 0.5, "data": "first\n"},
    {"stream_name": "stderr", "time": 1.5, "data": 'é {"data": "not an event"}\nsecond of two\n'},
    {"stream_name": "stdout", "time": 2, "data": "without its end"},
]
LINES = [
    LogLine(0, "stdout", 0.5, "first"),
    LogLine(1, "stderr", 1.5, 'é {"data": "not an event"}'),
    LogLine(2, "stderr", 1.5, "second of two"),
    LogLine(3, "stdout", 2.0, "without its end"),
]


def test_a_stored_log_is_read_line_by_line():
    assert parse_log(json.dumps(EVENTS)) == LINES


def test_a_log_that_was_cut_at_either_end_keeps_its_whole_events():
    text = json.dumps(EVENTS, ensure_ascii=False)
    assert [line.text for line in parse_log(text[5:])] == [line.text for line in LINES[1:]]
    assert [line.text for line in parse_log(text[:-5])] == [line.text for line in LINES[:3]]
    assert [line.text for line in parse_log(text[5:-5])] == [line.text for line in LINES[1:3]]


@pytest.mark.parametrize("text", ["", "[]", "null", "[null, 5]", '[{"time": "x"}]'])
def test_an_empty_log_has_no_lines(text):
    assert parse_log(text) == []


def test_plain_text_is_taken_as_lines():
    assert [line.text for line in parse_log("one\ntwo\n")] == ["one", "two"]
