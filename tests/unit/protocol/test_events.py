"""An event of a session is found wherever it stands in its log, and nothing else is taken for one."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.protocol.events import (
    BundleEvent,
    ContainerEvent,
    EvaluationEvent,
    Event,
    ProgressEvent,
    ResultEvent,
    ResumeEvent,
    format_event,
    parse_event,
    session_tag,
)

TAG = session_tag("3fa85f64b7170f4d1c9e2a77", 2)
EVENTS: list[Event] = [
    BundleEvent(sha256="0123456789abcdef" * 4),
    ContainerEvent(container='kaggle "session" 42'),
    ResumeEvent(step=5, target=10, manifest_sha256="a" * 64, exact="pickle"),
    ProgressEvent(step=5, target=10, steps_per_s=2.5, reward=-1.0, checkpoint=4),
    EvaluationEvent(step=5, score=1.5, best=True, episodes=1, env_steps=9, seconds=3.21),
    ResultEvent(
        run_id="r",
        generation=2,
        bundle_sha256="b",
        outcome="crashed",
        reason='KM_PROGRESS {"session": "3fa85f64/2"\nfailed',
        exit_code=1,
        step=None,
        output_files=3,
    ),
]
PROGRESS = EVENTS[3]


def line(event: Event, tag: str = TAG) -> str:
    text = format_event(event, tag)
    assert text.startswith("\n")
    assert text.endswith("\n")
    assert text.count("\n") == 2
    return text[1:-1]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
@pytest.mark.parametrize("frame", ["{}", "....{}", "{}....", "é KM_PROGRESS {{}} KM_ {}KM_EVAL", "  {}\r", "{{{}}}"])
def test_an_event_is_found_anywhere_in_a_line(event: Event, frame: str) -> None:
    assert parse_event(frame.format(line(event)), TAG) == event


def test_text_without_a_line_end_does_not_swallow_an_event() -> None:
    log = "...." + format_event(PROGRESS, TAG) + "...." + format_event(EVENTS[4], TAG)
    assert [found for text in log.split("\n") if (found := parse_event(text, TAG))] == [PROGRESS, EVENTS[4]]


@pytest.mark.parametrize("tag", [session_tag("3fa85f64b7", 3), session_tag("4fa85f64b7", 2), "3fa85f64/22"])
def test_an_event_of_another_session_is_a_line_of_text(tag: str) -> None:
    assert parse_event(line(PROGRESS, tag), TAG) is None
    assert parse_event(line(PROGRESS, tag) + " " + line(EVENTS[4]), TAG) == EVENTS[4], "and hides none of this one"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "step 5",
        "KM_PROGRESS",
        'KM_PROGRESS {"step": 5, "target": 10}',
        'KM_PROGRESS {"step": 5, "target": 10, "session": "3fa85f64/2"}',
        'KM_PROGRESS {"session": "3fa85f64/2"',
        'KM_PROGRESS {"session": "3fa85f64/2"}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": "x", "target": 10}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": -1, "target": 10}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": true, "target": 10}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": 1e3, "target": 10}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": 9007199254740992, "target": 10}',
        'KM_BUNDLE {"session": "3fa85f64/2", "sha256": "xyz"}',
        'KM_OTHER {"session": "3fa85f64/2"}',
        'KM_PROGRESS {"session": "3fa85f64/2", "step": ' + "[" * 100_000,
        'KM_PROGRESS {"session": "3fa85f64/2", "step": ' + "1" * 100_000 + "}",
    ],
    ids=lambda text: text[:60],
)
def test_anything_else_is_no_event(text: str) -> None:
    assert parse_event(text, TAG) is None


def test_a_half_written_event_does_not_hide_the_next_one() -> None:
    assert parse_event(line(PROGRESS)[:60] + line(EVENTS[4]), TAG) == EVENTS[4]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite_is_not_known_on_either_side(value: Any) -> None:
    written = ProgressEvent(step=5, target=10, reward=value)
    assert written.reward is None
    assert parse_event(line(written), TAG) == written
    read = f'KM_PROGRESS {{"session": "{TAG}", "step": 5, "target": 10, "reward": {json.dumps(value)}}}'
    assert parse_event(read, TAG) == written


def test_a_later_version_may_say_more() -> None:
    more = line(PROGRESS).replace('"step"', '"speed_of_light": [1], "step"')
    assert parse_event(more, TAG) == PROGRESS


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    parse_event(text, TAG)
    parse_event(f'KM_PROGRESS {{"session": "{TAG}"{text}', TAG)


@pytest.mark.parametrize(
    "unit",
    [
        "KM_EVAL ",
        f'KM_EVAL {{"session": "{TAG}"',
        f'KM_EVAL {{"session": "{TAG}", "a": [',
        f'KM_EVAL {{"session": "{TAG}", "a":"":",","',
        '":",","KM_EVAL {"',
        "[",
    ],
)
def test_a_line_is_read_in_time_that_grows_as_it_does(unit: str) -> None:
    def seconds(length: int) -> float:
        text = f'KM_EVAL {{"session": "{TAG}", "a": ' + unit * (length // len(unit))
        spent = []
        for _ in range(3):
            begun = time.process_time()
            parse_event(text, TAG)
            spent.append(time.process_time() - begun)
        return min(spent)

    # Sixteen times as long: a quadratic reader would take 256 times as long, and seconds for the long one.
    assert seconds(800_000) < 60 * seconds(50_000) + 0.05
