"""A kernel's log is read as far as it can be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.platforms.kaggle.log_lines import LogLine, parse_log


@given(st.text())
def test_no_text_breaks_the_parser(text):
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
