"""A kernel's log is read as far as it can be."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.platforms.kaggle.log_lines import parse_log, stored_events
from kaggle_manager.platforms.long_strings import with_short_strings
from kaggle_manager.platforms.platform import LONGEST_LINE, LogLine


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


@given(st.lists(st.text(max_size=20), max_size=6), st.integers(1, 9))
def test_a_log_that_comes_in_pieces_has_the_same_events(said, size):
    events = [{"stream_name": "stdout", "time": 1, "data": text} for text in said]
    text = json.dumps(events, ensure_ascii=False)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(stored_events(pieces)) == events


def test_a_log_without_its_middle_says_so_in_its_middle():
    events = [{"data": f"line {n}\n"} for n in range(10_000)]
    answer = json.dumps({"log": json.dumps(events)})
    pieces = [answer[at : at + 1_000] for at in range(0, len(answer), 1_000)]
    short = json.loads("".join(with_short_strings(pieces, head=2_000, tail=2_000)))
    lines = [line.text for line in parse_log(short["log"])]
    (missing,) = [n for n, line in enumerate(lines) if "characters are left out here" in line]
    assert lines[0] == "line 0"
    assert lines[missing - 1].startswith("line ")
    assert lines[-1] == "line 9999"
    assert len(lines) < 300


def test_a_long_line_is_cut_and_says_how_long_it_was():
    (line,) = parse_log(json.dumps([{"data": "x" * 50_000}]))
    assert len(line.text) == LONGEST_LINE
    assert line.text.endswith("x… (50,000 characters)")


def test_what_could_drive_a_terminal_ends_where_a_line_enters():
    (line,) = parse_log(json.dumps([{"data": "a\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J \u202eb\ud800\x00\r\tc"}]))
    assert line.text == "ared b c"


HOSTILE = [
    '{"data":"',
    '{"data":"x {"time',
    '{"time": {"data": "x',
    '{"data":"\\"',
    '[{"data": "x"}, {',
    "{",
    "\\",
    '"',
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("between", ["", "\n"])
def test_the_cost_is_linear_whatever_was_cut_where(text, between):
    whole = f"{text}{between}" * (200_000 // len(text))
    began = time.process_time()
    parse_log(whole)
    for _ in stored_events(whole[at : at + 65_536] for at in range(0, len(whole), 65_536)):
        pass
    assert time.process_time() - began < 5  # quadratic, it would be minutes
