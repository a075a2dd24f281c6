"""What fits in a session and in a week, and the date of the target: from measurements, never beyond the limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.runs import budget
from kaggle_manager.runs.budget import (
    Forecast,
    NotWorthIt,
    Pace,
    PastSession,
    QuotaView,
    SessionPlan,
    TooShort,
    advice_on_gain,
    forecast,
    forecast_error,
    margin,
    measure,
    own_quota,
    plan_session,
    tighter,
    week_ends,
)

HOUR, LIMIT, NOW = 3600.0, 12 * 3600.0, 1_000_000.0
PACE = Pace(steps_per_s=10.0, setup_s=120.0, ending_s=30.0)


def planned(
    remaining: int, limit: float = LIMIT, pace: Pace | None = PACE, quota: QuotaView | None = None
) -> SessionPlan:
    plan = plan_session(remaining, limit, pace=pace, quota=quota, now=NOW)
    assert isinstance(plan, SessionPlan)
    return plan


def test_before_anything_is_measured_a_session_has_its_whole_limit_less_a_safe_margin() -> None:
    plan = planned(10**9, pace=None)
    assert (plan.timeout_s, plan.deadline_s, plan.steps) == (LIMIT, LIMIT - 600, None)
    assert planned(10**9, limit=60.0, pace=None).deadline_s == 48
    assert planned(10**9, limit=600.0, pace=None).deadline_s == 576, "at least 95 % of ten minutes are trained"


def test_a_measured_margin_replaces_the_guess_also_a_longer_one() -> None:
    assert margin(LIMIT, PACE) == 2 * 30 + budget.MARGIN_LEAST_S
    assert margin(LIMIT, Pace(1, 1, 5000.0)) == 600
    assert margin(LIMIT, Pace(1, 1, None)) == 600
    assert [margin(600.0, Pace(1, 1, ending)) for ending in (None, 1.0, 30.0, 100.0)] == [24.0, 22.0, 80.0, 120.0]


@pytest.mark.parametrize("ending_s", [None, 0.0, 10.0, 200.0])
@pytest.mark.parametrize("busy_s", [10.0, 90.0, 300.0, 3000.0, 30_000.0])
def test_the_shortest_session_that_is_advised_holds_its_work_and_its_margin(
    ending_s: float | None, busy_s: float
) -> None:
    pace = Pace(1.0, 1.0, ending_s)
    least_s = budget._least_for(busy_s, pace)
    assert least_s - margin(least_s, pace) == pytest.approx(busy_s)


def test_the_steps_of_a_session_are_what_fits_between_set_up_and_deadline() -> None:
    plan = planned(10**9)
    assert plan.timeout_s == LIMIT
    assert plan.steps == int((plan.deadline_s - 120) * 10)


def test_the_last_session_reserves_no_more_quota_than_it_may_need() -> None:
    plan = planned(36_000)  # an hour of training
    assert plan.steps == 36_000
    assert HOUR < plan.timeout_s < 3 * HOUR
    assert plan.deadline_s < plan.timeout_s


def test_whole_rollouts_are_planned() -> None:
    plan = plan_session(10**9, LIMIT, pace=PACE, quota=None, now=NOW, rollout=2048)
    assert isinstance(plan, SessionPlan)
    assert plan.steps == planned(10**9).steps // 2048 * 2048
    rest = plan_session(100, LIMIT, pace=PACE, quota=None, now=NOW, rollout=2048)
    assert isinstance(rest, SessionPlan)
    assert rest.steps == 2048
    assert rest.deadline_s > 120 + 204.8
    seen = forecast(3 * 2048, 600.0, pace=PACE, quota=None, now=NOW, rollout=2048)
    assert seen is not None
    assert seen.sessions == 3, "two and a half would fit"


def test_a_session_too_short_for_one_rollout_is_refused_with_how_long_it_would_have_to_be() -> None:
    def plan(limit: float) -> SessionPlan | NotWorthIt | TooShort:
        return plan_session(10**6, limit, pace=PACE, quota=None, now=NOW, rollout=2048)

    refused = plan(300.0)
    assert isinstance(refused, TooShort)
    assert "2,048 timesteps takes 205 s after a set-up of 120 s" in refused.why
    assert "--session-limit 7m" in refused.what_to_do
    enough = plan(refused.least_s)
    assert isinstance(enough, SessionPlan)
    assert enough.deadline_s == pytest.approx(120 + 204.8)
    assert forecast(10**6, 300.0, pace=PACE, quota=None, now=NOW, rollout=2048) is None
    little = QuotaView(300.0, 30 * HOUR, NOW + HOUR)
    assert isinstance(plan_session(10**6, LIMIT, pace=PACE, quota=little, now=NOW, rollout=2048), NotWorthIt)


def test_a_rollout_that_ends_in_the_margin_is_none_too_long() -> None:
    plan = plan_session(10**6, 330.0, pace=PACE, quota=None, now=NOW, rollout=2048)
    assert isinstance(plan, SessionPlan)
    assert plan.steps == 2048


def test_what_is_left_of_the_quota_bounds_the_session() -> None:
    plan = planned(10**9, quota=QuotaView(2 * HOUR, 30 * HOUR, None))
    assert plan.timeout_s == 2 * HOUR


def test_a_session_too_short_to_be_worth_its_set_up_waits_for_the_reset() -> None:
    reset = NOW + 2 * 24 * HOUR
    waits = plan_session(10**9, LIMIT, pace=PACE, quota=QuotaView(200.0, 30 * HOUR, reset), now=NOW)
    assert isinstance(waits, NotWorthIt)
    assert waits.until == reset
    assert "0.1 h" in waits.why
    unknown = plan_session(10**9, LIMIT, pace=None, quota=QuotaView(0.0, 30 * HOUR, None), now=NOW)
    assert isinstance(unknown, NotWorthIt)
    assert unknown.until == NOW + HOUR


def test_a_reset_that_should_have_been_is_looked_for_again_in_an_hour() -> None:
    waits = plan_session(10**9, LIMIT, pace=PACE, quota=QuotaView(0.0, 30 * HOUR, NOW - 5), now=NOW)
    assert isinstance(waits, NotWorthIt)
    assert waits.until == NOW + HOUR


def test_a_rest_that_fits_is_trained_however_short_the_session() -> None:
    assert planned(5, quota=QuotaView(300.0, 30 * HOUR, None)).timeout_s == 300


def test_the_forecast_counts_sessions_resets_and_quota() -> None:
    a_session = planned(10**9).steps
    assert a_session is not None
    one = forecast(a_session, LIMIT, pace=PACE, quota=None, now=NOW)
    assert isinstance(one, Forecast)
    assert one.sessions == 1
    # Thirty hours a week hold two and a half sessions of twelve: the fourth begins after the reset.
    reset = NOW + 7 * 24 * HOUR
    four = forecast(4 * a_session, LIMIT, pace=PACE, quota=QuotaView(30 * HOUR, 30 * HOUR, reset), now=NOW)
    assert isinstance(four, Forecast)
    assert four.done_at > reset
    assert four.accelerator_s == pytest.approx(48 * HOUR, rel=0.05)


def test_without_a_measured_speed_there_is_no_forecast() -> None:
    assert forecast(100, LIMIT, pace=None, quota=None, now=NOW) is None


def test_the_pace_is_of_the_last_sessions_that_gained_something() -> None:
    def session(steps: int, train_s: float) -> PastSession:
        return PastSession(steps, setup_s=10, train_s=train_s, ending_s=3)

    assert measure([session(0, 0.0)]) is None
    pace = measure([session(1, 1000), session(100, 10), session(0, 5), session(200, 10), session(300, 10)])
    assert pace == Pace(steps_per_s=20, setup_s=10, ending_s=3)


def test_a_session_counts_for_the_speed_as_long_as_it_trained() -> None:
    long, starting = PastSession(22_000, 8, 38.0), PastSession(100, 8, 1.75)
    odd = PastSession(9_000, 8, 36.0)
    assert measure([starting, long, starting]) == Pace(22_000 / 38, 8, None), "what only began says nothing"
    assert measure([long, odd, long]) == Pace(22_000 / 38, 8, None), "one odd session among others is no measure"
    assert measure([long, PastSession(57, None, 1.0)]) == Pace(22_000 / 38, 8, None), "a cut one has no set-up"
    cut = measure([PastSession(5_800, None, 10.0)])
    assert cut == Pace(580, budget.SETUP_GUESS_S, None)


def test_the_time_between_sessions_is_measured_and_a_pause_is_none() -> None:
    def pace(*between: float | None) -> Pace | None:
        return measure([PastSession(100, 10, 10, turnaround_s=seconds) for seconds in between])

    assert pace(None) == Pace(10, 10, None, budget.TURNAROUND_S)
    assert pace(None, 8.0, 24 * HOUR) == Pace(10, 10, None, 8.0)
    quick, guessed = (
        forecast(10**6, HOUR, pace=Pace(10, 10, None, between), quota=None, now=NOW)
        for between in (8.0, budget.TURNAROUND_S)
    )
    assert quick is not None
    assert guessed is not None
    assert quick.between_s == pytest.approx(8.0 * (quick.sessions - 1))
    assert guessed.done_at - quick.done_at == pytest.approx((budget.TURNAROUND_S - 8.0) * (quick.sessions - 1))


def test_the_date_is_the_sum_of_what_lies_before_it() -> None:
    reset = NOW + 7 * 24 * HOUR
    seen = forecast(2 * 10**6, LIMIT, pace=PACE, quota=QuotaView(30 * HOUR, 30 * HOUR, reset), now=NOW)
    assert seen is not None
    assert seen.quota_wait_s > 4 * 24 * HOUR
    assert seen.done_at == pytest.approx(NOW + seen.accelerator_s + seen.between_s + seen.quota_wait_s)


def test_how_wrong_earlier_forecasts_were_is_a_median_share() -> None:
    def session(steps: int, expected: int | None) -> PastSession:
        return PastSession(steps, 1, 1, expected_steps=expected)

    assert forecast_error([session(10, None)]) is None
    assert forecast_error([session(110, 100), session(80, 100), session(120, 100)]) == pytest.approx(0.1)


def test_an_accelerator_without_gain_is_said_with_what_it_costs() -> None:
    assert advice_on_gain(None, 0) == ""
    assert advice_on_gain(3.0, 0) == ""
    assert "1 times" in advice_on_gain(1.0, 9 * HOUR)
    assert "9.0 h saved" in advice_on_gain(1.0, 9 * HOUR)


positive = st.floats(0.01, 1e4)


@given(past=st.lists(st.builds(PastSession, st.integers(1, 10**6), st.none() | positive, positive), min_size=1))
def test_a_measured_speed_was_had_for_half_of_the_training_time(past: list[PastSession]) -> None:
    pace, recent = measure(past), past[-budget.RECENT :]
    assert pace is not None
    for share in (
        sum(s.train_s for s in recent if s.steps / s.train_s <= pace.steps_per_s),
        sum(s.train_s for s in recent if s.steps / s.train_s >= pace.steps_per_s),
    ):
        assert share >= sum(s.train_s for s in recent) / 2 * (1 - 1e-9)


@given(
    remaining=st.integers(1, 10**9),
    limit=st.floats(20, LIMIT),
    pace=st.none() | st.builds(Pace, positive, positive, st.none() | positive),
    left=st.none() | st.floats(0, 30 * HOUR),
    refresh=st.none() | st.floats(NOW - 1e6, NOW + 1e6),
    rollout=st.just(1) | st.integers(2, 5000),
)
def test_no_plan_passes_a_limit_the_quota_or_its_own_end(
    remaining: int, limit: float, pace: Pace | None, left: float | None, refresh: float | None, rollout: int
) -> None:
    quota = None if left is None else QuotaView(left, 30 * HOUR, refresh)
    plan = plan_session(remaining, limit, pace=pace, quota=quota, now=NOW, rollout=rollout)
    if isinstance(plan, NotWorthIt):
        assert plan.until > NOW
        return
    if isinstance(plan, TooShort):
        assert rollout > 1
        assert plan.least_s > limit
        return
    assert plan.timeout_s <= limit
    assert left is None or plan.timeout_s <= left
    assert plan.deadline_s < plan.timeout_s
    assert plan.steps is None or 0 <= plan.steps < remaining + rollout
    assert plan.steps is None or plan.steps % rollout == 0
    assert (
        forecast(remaining, limit, pace=pace, quota=quota, now=NOW, rollout=rollout) or Forecast(NOW, 0, 0)
    ).done_at >= NOW


def test_what_the_user_allows_a_week_is_less_by_what_sessions_had_of_it_and_may_still_have() -> None:
    ends = NOW + 5 * HOUR
    starts = ends - budget.WEEK_S
    sessions = [(starts - HOUR, starts + 2 * HOUR), (starts - 9 * HOUR, starts - HOUR), (NOW, NOW + 12 * HOUR)]
    assert own_quota(20 * HOUR, sessions, ends) == QuotaView(6 * HOUR, 20 * HOUR, ends, is_own=True)
    assert own_quota(10 * HOUR, sessions, ends).left_s == 0


def test_the_week_is_the_platforms_or_kaggles() -> None:
    assert week_ends(NOW + 100, NOW) == NOW + 100
    for stated in (None, NOW - 100, NOW + 8 * 24 * HOUR):
        ends = datetime.fromtimestamp(week_ends(stated, NOW), UTC)
        assert (ends.isoweekday(), ends.hour, ends.minute, ends.second) == (6, 0, 0, 0)
        assert 0 < ends.timestamp() - NOW <= budget.WEEK_S


def test_the_quota_of_which_less_is_left_counts() -> None:
    platforms, own = QuotaView(9 * HOUR, 30 * HOUR, NOW + 9), QuotaView(5 * HOUR, 40 * HOUR, NOW + 9, is_own=True)
    assert tighter(platforms, own) == QuotaView(5 * HOUR, 30 * HOUR, NOW + 9, is_own=True)
    assert tighter(QuotaView(HOUR, 30 * HOUR, None), own) == QuotaView(HOUR, 30 * HOUR, None)
    assert (tighter(platforms, None), tighter(None, own), tighter(None, None)) == (platforms, own, None)


def test_a_session_is_made_shorter_for_the_users_quota_and_a_wait_says_how_it_ends_sooner() -> None:
    own = QuotaView(2 * HOUR, 20 * HOUR, NOW + 24 * HOUR, is_own=True)
    assert planned(10**9, quota=own).timeout_s == 2 * HOUR
    waits = plan_session(10**9, LIMIT, pace=PACE, quota=replace(own, left_s=0.0), now=NOW)
    assert isinstance(waits, NotWorthIt)
    assert waits.until == NOW + 24 * HOUR
    assert waits.why.startswith("0.0 h of what --quota-per-week allows are left this week")
    assert waits.why.endswith("waiting for the reset, or for a larger --quota-per-week")
