"""What one ended session cost: its end is measured from outside, where the platform's share of it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.runs.budget import TooShort, margin, measure, plan_session
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.metrics import lasted, measurements, past_sessions, time_it_had
from kaggle_manager.system.formatting import iso

STARTED = 1_800_000_000.0
PLANNED = {"timeout_s": 600.0, "deadline_s": 550.0, "steps": None}


@pytest.mark.parametrize(
    ("over_after_s", "ending_s"),
    [
        pytest.param(580.0, 30.0, id="hashing and keeping its outputs took half a minute"),
        pytest.param(530.0, 0.0, id="over before it had to be"),
        pytest.param(90_000.0, 50.0, id="nobody looked for a day: no session outlives its limit"),
    ],
)
def test_the_end_of_a_session_lasts_until_it_is_over(over_after_s: float, ending_s: float) -> None:
    facts = {"planned": PLANNED, "seen": {"running_since": STARTED}}
    ended_at = iso(STARTED + over_after_s)
    session = SessionRow("r", 1, Stage.ENDED, None, 0, "b" * 64, "", iso(STARTED), ended_at=ended_at, facts=facts)
    result = SessionResult(
        outcome="interrupted",
        reason="the session's time is used up after 520 s",
        exit_code=0,
        run_id="r",
        generation=1,
        bundle_sha256="b" * 64,
        timings={"total": 520.0},
    )
    measured = measurements(session, result, step_before=0, step_after=10, failed=False)
    assert (measured["ran_s"], measured["ending_s"]) == (520.0, ending_s)


def test_what_a_session_waits_in_a_queue_is_no_time_of_it_and_no_time_lost() -> None:
    """Nobody looked between the submission and a day after its end."""
    facts = {"planned": PLANNED, "seen": {"state": "ERROR", "ran_s": 60.0, "running_since": STARTED + 90_000.0}}
    ended_at = iso(STARTED + 90_060.0)
    session = SessionRow("r", 1, Stage.ENDED, None, 0, "b" * 64, "", iso(STARTED), ended_at=ended_at, facts=facts)
    measured = measurements(session, None, step_before=0, step_after=0, failed=True)
    assert (measured["ran_s"], measured["lost_s"]) == (60.0, 60.0)
    assert "ending_s" not in measured, "nor had it too little time"
    facts["seen"] = {"state": "CANCELLED", "ran_s": 0.0}
    measured = measurements(session, None, step_before=0, step_after=0, failed=True)
    assert (measured["ran_s"], measured["lost_s"]) == (0.0, 0.0), "it never ran"


@pytest.mark.parametrize(("over_after_s", "kept_s"), [(300.0, 24.0), (601.0, 120.0)])
def test_one_that_its_limit_has_killed_needed_more_than_it_was_given(over_after_s: float, kept_s: float) -> None:
    facts = {"planned": PLANNED, "seen": {"running_since": STARTED, "step": 1000, "steps_per_s": 2.0}}
    ended_at = iso(STARTED + over_after_s)
    session = SessionRow("r", 1, Stage.ENDED, None, 0, "b" * 64, "", iso(STARTED), ended_at=ended_at, facts=facts)
    measured = measurements(session, None, step_before=0, step_after=900, failed=False)
    closed = replace(session, stage=Stage.CLOSED, facts={**facts, **measured})
    assert margin(600.0, measure(past_sessions([closed]))) == kept_s, "twice what it had, and some"


def test_a_session_that_was_cut_tells_its_speed_and_what_lay_before_it() -> None:
    def session(generation: int, began: float, ended: float, facts: dict[str, object]) -> SessionRow:
        seen = {"running_since": STARTED + began, "step": 30_000, "steps_per_s": 580.0}
        return SessionRow(
            "r",
            generation,
            Stage.CLOSED,
            None,
            1000,
            "b" * 64,
            0,
            iso(STARTED),
            ended_at=iso(STARTED + ended),
            facts={"seen": seen, **facts},
        )

    measured = {"gained": 100, "ran_s": 10.0, "timings": {"setup": 8.0, "train": 1.75}}
    first, cut, odd, running = past_sessions(
        [
            session(1, 0, 10, measured),
            session(2, 18, 80, {"ran_s": 60.0, "gained": 0, "timings": {}}),
            session(3, 85, 90, {"ran_s": 5.0, "gained": 0, "timings": {}}),
            session(4, 95, 100, {"timings": {}}),
            session(5, 105, 110, measured),
        ]
    )
    assert (first.steps, first.setup_s, first.turnaround_s) == (100, 8.0, None)
    assert (cut.steps, cut.setup_s, cut.train_s, cut.turnaround_s) == (29_000, None, 50.0, 8.0)
    assert (odd.steps, odd.train_s) == (2900, 5.0), "no longer than it was seen to run"
    assert running.turnaround_s == 5.0


def test_a_session_too_short_for_one_rollout_says_how_long_it_had_and_the_next_one_how_long_is_enough() -> None:
    facts = {"planned": {"timeout_s": 60.0, "deadline_s": 48.0, "steps": None}}
    session = SessionRow(
        "r", 1, Stage.ENDED, None, 0, "b" * 64, "", iso(STARTED), ended_at=iso(STARTED + 60), facts=facts
    )
    result = SessionResult(
        outcome="interrupted",
        reason="the session's time is used up after 45 s",
        exit_code=0,
        run_id="r",
        generation=1,
        bundle_sha256="b" * 64,
        timings={"total": 45.0, "setup": 28.0, "train": 17.0},
        counts={"steps": 1000},
    )
    said = time_it_had(session, result)
    assert said == "its limit of 60 s leaves 20 s after start and margin, of which 1,000 timesteps took 17 s"
    measured = measurements(session, result, step_before=0, step_after=0, failed=True)
    closed = replace(
        session, stage=Stage.CLOSED, outcome="interrupted", facts={**facts, **measured, "counts": dict(result.counts)}
    )
    plan = plan_session(8192, 60.0, pace=measure(past_sessions([closed])), quota=None, now=0.0, rollout=4096)
    assert isinstance(plan, TooShort)
    assert "one rollout of 4,096 timesteps takes 70 s after a set-up of 28 s" in plan.why
    assert "--session-limit 3m" in plan.what_to_do


def test_a_session_has_used_what_it_ran_and_one_that_runs_all_that_it_may_last() -> None:
    runs = SessionRow("r", 1, Stage.PUSHED, None, 0, "b" * 64, "", iso(STARTED), facts={"planned": PLANNED})
    assert lasted(runs) == (STARTED, STARTED + 600)
    began = replace(runs, facts={"planned": PLANNED, "seen": {"running_since": STARTED + 50}})
    assert lasted(began) == (STARTED + 50, STARTED + 650), "and not while it waited in a queue"
    ended = replace(runs, stage=Stage.ENDED, ended_at=iso(STARTED + 90_000))
    assert lasted(ended) == (STARTED, STARTED + 600), "nobody looked for a day: no session outlives its limit"
    assert lasted(replace(ended, facts={"planned": PLANNED, "ran_s": 200.0})) == (STARTED, STARTED + 200)
