"""Whatever a log says, what was seen of it is plain data that can be written down and gone on with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_manager.platforms.platform import LogLine, SessionState, SessionStatus
from kaggle_manager.protocol.events import parse_event
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.sessions.watch import PollInterval, slowest_s

CODE = "c" * 64
values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400) | st.just([])
names = st.sampled_from(["step", "target", "steps_per_s", "reward", "checkpoint", "bundle_sha256"])
bodies = st.dictionaries(names, values, max_size=6).map(lambda body: json.dumps({"session": "r/1", **body}))
lines = st.tuples(st.sampled_from(["KM_PROGRESS", "KM_RESUME", "KM_RESULT", "KM_EVAL", "said"]), bodies)


@settings(max_examples=100)
@given(st.lists(lines, max_size=5))
def test_any_log_leaves_something_that_json_can_hold(log: list[tuple[str, str]]) -> None:
    seen = SessionProgress()
    for number, (kind, body) in enumerate(log):
        seen = seen.after_line(LogLine(number, "stdout", float(number), ""), 100.0 + number)
        if event := parse_event(f"{kind} {body}", "r/1"):
            seen = seen.after_event(event, 100.0 + number, bundle_sha256=CODE)
    written = json.loads(json.dumps(seen.as_facts(), allow_nan=False))
    assert SessionProgress.of(written) == seen
    assert seen.lines == len(log)


def test_what_a_newer_version_wrote_down_is_read_as_far_as_it_is_known() -> None:
    assert SessionProgress.of({"step": 5, "from_the_future": 1}) == SessionProgress(step=5)


def status(state: SessionState, ran_s: float | None = None, why: str = "") -> SessionStatus:
    return SessionStatus(state, why, state.name, ran_s=ran_s)


def test_a_state_is_dated_when_it_is_first_seen() -> None:
    seen = SessionProgress().after_status(status(SessionState.QUEUED), 1.0)
    seen = seen.after_status(status(SessionState.RUNNING), 5.0).after_status(status(SessionState.RUNNING), 9.0)
    assert (seen.queued_since, seen.running_since, seen.state) == (1.0, 5.0, "RUNNING")


@pytest.mark.parametrize("state", [SessionState.RUNNING, SessionState.ERROR])
def test_a_session_begins_when_its_platform_says_so_however_late_it_is_looked_at(state: SessionState) -> None:
    seen = SessionProgress().after_status(status(SessionState.QUEUED, 0.0, "it is held"), 100.0)
    assert (seen.running_since, seen.why_queued) == (None, "it is held")
    seen = seen.after_status(status(state, 50.0), 900.0)
    assert (seen.running_since, seen.ran_s, seen.why_queued) == (850.0, 50.0, "")


def polls(state: SessionState | None, seconds: float, **phase: Any) -> int:
    now, pace, count = 0.0, PollInterval(0.0, lambda: 0.5), 0
    while now < seconds:
        now, count = pace.due, count + 1
        pace.asked(now, slowest_s(state, **phase))
    return count


def test_polls_follow_the_phase() -> None:
    hour = 3600.0
    live = polls(SessionState.RUNNING, hour, log_is_live=True, is_ending=False)
    blind = polls(SessionState.RUNNING, hour, log_is_live=False, is_ending=False)
    ending = polls(SessionState.RUNNING, hour, log_is_live=True, is_ending=True)
    queued = polls(SessionState.QUEUED, hour, log_is_live=False, is_ending=False)
    assert live < 50 < blind == queued < 150 < ending < 400


def test_pauses_are_spread_over_the_whole_range() -> None:
    shares = iter([0.0, 0.999])
    pace = PollInterval(0.0, lambda: next(shares))
    pace._pause_s = 100.0
    pace.asked(0.0, 100.0)
    assert pace.due == 1.0
    pace.asked(0.0, 100.0)
    assert pace.due > 99.0
