"""What fits in the next session and in this week, and when the target will be reached. Pure.

Everything comes from what earlier sessions of the run measured (set-up, speed, what an orderly end takes) and from the
platform's own word on the quota; before the first measurement stand the figures below, chosen to be safe. Times are in
seconds, moments in seconds since the epoch.

A `rollout` is how many timesteps an algorithm trains between two moments at which it can be saved; 1 for most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from kaggle_manager.system.accelerators import WORTHWHILE_GAIN

# The end of a session kept free for the last save and for Kaggle's upload of the outputs: before it is measured this
# part of the session, and at least so many seconds. What the trainer does after its last save, it reckons itself by the
# size of what it leaves, see `session_clock`.
MARGIN_GUESS_SHARE, MARGIN_LEAST_S = 0.04, 20.0
# A measured end may take so much longer the next time, and the least beside.
MARGIN_FACTOR = 2.0
# Never more than ten minutes, nor than a fifth of a short session.
MARGIN_MOST_S, MARGIN_MOST_SHARE = 600.0, 0.2
# Installing the packages takes about two minutes on Kaggle; imports and the restore come on top.
SETUP_GUESS_S = 180.0
# A session must train at least this much longer than it sets itself up, or the quota is better spent after the reset.
WORTH_FACTOR = 2.0
# A session's time limit, and with it the quota it reserves, beside what it will probably need.
TIMEOUT_FACTOR = 2.0
TIMEOUT_LEAST_S = 900.0
WEEK_S = 7 * 24 * 3600.0
# 3 January 1970.
FIRST_SATURDAY = 2 * 24 * 3600.0
# Between the end of one session and the start of the next: download, restore, upload, queue; until it is measured.
TURNAROUND_S = 300.0
# A longer time between two sessions was a pause, a wait for the quota, or a machine that slept.
TURNAROUND_MOST_S = 7200.0
RECENT = 3
# Nobody plans further than this.
MOST_SESSIONS = 5000


@dataclass(frozen=True)
class PastSession:
    """What one ended session measured.

    Attributes:
        steps: timesteps it trained.
        setup_s: from the kernel's start to the first step, installation included; None of one that was cut.
        train_s: training, evaluations and saves.
        ending_s: from the moment it should have stopped training until it was over; None unless time ended it.
        expected_steps: what the plan had expected; None when nothing was known, or the session was cut.
        turnaround_s: from the end of the session before it to its own start; None of the first.
    """

    steps: int
    setup_s: float | None
    train_s: float
    ending_s: float | None = None
    expected_steps: int | None = None
    turnaround_s: float | None = None


@dataclass(frozen=True)
class Pace:
    """How fast a run goes, from its last sessions.

    Attributes:
        steps_per_s: their median speed, each session weighed by its training time: what a session of some steps shows
            is mostly its start, and one odd session among longer ones counts for nothing.
        setup_s: median.
        ending_s: the longest; None before the first.
        turnaround_s: from the end of one session to the start of the next; median.
    """

    steps_per_s: float
    setup_s: float
    ending_s: float | None
    turnaround_s: float = TURNAROUND_S


@dataclass(frozen=True)
class QuotaView:
    """Session time left this week, and when the week starts again (None: the platform does not say).

    `is_own`: it is what the user allows, and not the platform.
    """

    left_s: float
    total_s: float
    refresh_at: float | None
    is_own: bool = False


@dataclass(frozen=True)
class SessionPlan:
    """How the next session is launched.

    Attributes:
        timeout_s: when the platform ends it.
        deadline_s: when it must have stopped training by itself, from the kernel's start.
        steps: timesteps it should gain; None when no speed is known.
        why: in words.
    """

    timeout_s: float
    deadline_s: float
    steps: int | None
    why: str


@dataclass(frozen=True)
class NotWorthIt:
    """What is left of the quota is not worth a session's set-up; wait until `until`."""

    until: float
    why: str


@dataclass(frozen=True)
class TooShort:
    """No session of `limit_s` can end one rollout; one of `least_s` could."""

    limit_s: float
    least_s: float
    rollout: int
    pace: Pace

    @property
    def why(self) -> str:
        return (
            f"no session of {self.limit_s:.0f} s can save anything: one rollout of {self.rollout:,} timesteps takes "
            f"{self.rollout / self.pace.steps_per_s:.0f} s after a set-up of {self.pace.setup_s:.0f} s"
        )

    @property
    def what_to_do(self) -> str:
        return (
            f"give --session-limit {-(-self.least_s // 60):.0f}m or more; "
            "or a smaller n_steps in section.toml, for a training of its own with --fresh"
        )


@dataclass(frozen=True)
class Forecast:
    """When the target will be reached: the moment, and what lies before it.

    Attributes:
        done_at: the moment.
        sessions, accelerator_s: still to come, and how long they take together.
        between_s: from the end of one session to the start of the next, summed.
        quota_wait_s: of waiting for the weekly quota.
    """

    done_at: float
    sessions: int
    accelerator_s: float
    between_s: float = 0.0
    quota_wait_s: float = 0.0


def measure(past: Sequence[PastSession]) -> Pace | None:
    """The pace of a run, from the last sessions that gained something; None before the first."""
    gained = [session for session in past if session.steps > 0 and session.train_s > 0]
    if not gained:
        return None
    recent = gained[-RECENT:]
    setups = [session.setup_s for session in gained if session.setup_s is not None][-RECENT:]
    between = [s.turnaround_s for s in past if s.turnaround_s is not None and s.turnaround_s <= TURNAROUND_MOST_S]
    return Pace(
        steps_per_s=_median_speed(recent),
        setup_s=median(setups) if setups else SETUP_GUESS_S,
        ending_s=max((session.ending_s for session in recent if session.ending_s is not None), default=None),
        turnaround_s=median(between[-RECENT:]) if between else TURNAROUND_S,
    )


def _median_speed(sessions: Sequence[PastSession]) -> float:
    """Steps per second such that half of the training time was spent at this speed or below; see `Pace`."""
    by_speed = sorted(sessions, key=lambda session: session.steps / session.train_s)
    half, spent = sum(session.train_s for session in sessions) / 2, 0.0
    for session in by_speed:
        spent += session.train_s
        if spent >= half:
            break
    return session.steps / session.train_s


def margin(limit_s: float, pace: Pace | None) -> float:
    """Seconds at the end of a session of `limit_s` that are kept free of training."""
    most = min(MARGIN_MOST_S, MARGIN_MOST_SHARE * limit_s)
    if pace is None or pace.ending_s is None:
        return min(most, max(MARGIN_GUESS_SHARE * limit_s, MARGIN_LEAST_S))
    return min(most, MARGIN_FACTOR * pace.ending_s + MARGIN_LEAST_S)


def plan_session(
    remaining: int, limit_s: float, *, pace: Pace | None, quota: QuotaView | None, now: float, rollout: int = 1
) -> SessionPlan | NotWorthIt | TooShort:
    """Decide how long the next session may last, or that it is better to wait for the quota's reset, or to ask.

    Args:
        remaining: timesteps still to train; 0 when only an evaluation is missing.
        limit_s: the longest session asked for.
        quota: None when nothing bounds the week: neither the platform, as far as it says, nor the user.
    """
    available = limit_s if quota is None else min(limit_s, quota.left_s)
    setup_s = pace.setup_s if pace else SETUP_GUESS_S
    useful = available - margin(available, pace) - setup_s
    remaining = -(-remaining // rollout) * rollout
    needed = remaining / pace.steps_per_s if pace else None
    fits = needed is not None and needed <= useful
    # The first rollout is always trained to its end, also into the margin.
    ends_one = rollout == 1 or not pace or not remaining or available >= setup_s + rollout / pace.steps_per_s
    worth_it = is_worth_a_session(available, pace) and ends_one
    if quota is not None and available < limit_s and not worth_it and not fits:
        return _wait_for_reset(quota, available, setup_s, now)
    if pace is None or needed is None:
        return SessionPlan(available, available - margin(available, None), None, "no speed is known yet")
    if not ends_one:
        return TooShort(available, _least_for(setup_s + rollout / pace.steps_per_s, pace), rollout, pace)
    wanted = TIMEOUT_FACTOR * (setup_s + needed) + margin(available, pace)
    timeout = min(available, max(TIMEOUT_LEAST_S, wanted))
    deadline = timeout - margin(timeout, pace)
    steps = _trained(remaining, deadline - setup_s, pace, rollout)
    why = f"{pace.steps_per_s:.3g} steps/s after a set-up of {setup_s:.0f} s"
    return SessionPlan(timeout, deadline, steps, why)


def is_worth_a_session(seconds: float, pace: Pace | None) -> bool:
    """Whether a session of this length trains `WORTH_FACTOR` times as long as it takes to set up, or longer."""
    setup_s = pace.setup_s if pace else SETUP_GUESS_S
    return seconds - margin(max(0.0, seconds), pace) - setup_s >= WORTH_FACTOR * setup_s


def _trained(remaining: int, seconds: float, pace: Pace, rollout: int) -> int:
    """Timesteps of whole rollouts that are trained in so many seconds; of more than one, the first in any case."""
    whole = int(seconds * pace.steps_per_s) // rollout * rollout
    return min(remaining, max(whole, rollout if rollout > 1 else 0))


def _least_for(busy_s: float, pace: Pace) -> float:
    """The shortest session that keeps its margin free beside `busy_s`."""
    least = MARGIN_LEAST_S if pace.ending_s is None else margin(float("inf"), pace)
    least_s = min(busy_s / (1 - MARGIN_MOST_SHARE), busy_s + least)
    if pace.ending_s is not None:
        return least_s
    return max(least_s, min(busy_s / (1 - MARGIN_GUESS_SHARE), busy_s + MARGIN_MOST_S))


def _wait_for_reset(quota: QuotaView, available: float, setup_s: float, now: float) -> NotWorthIt:
    """Wait for the stated reset; one that is past, or not stated, is looked for again in an hour."""
    until = quota.refresh_at if quota.refresh_at is not None and quota.refresh_at > now else now + 3600.0
    name = "what --quota-per-week allows" if quota.is_own else "accelerator quota"
    sooner = ", or for a larger --quota-per-week" if quota.is_own else ""
    return NotWorthIt(
        until,
        f"{available / 3600:.1f} h of {name} are left this week, too little beside {setup_s:.0f} s of set-up; waiting "
        f"for the reset{sooner}",
    )


def own_quota(per_week_s: float, sessions: Iterable[tuple[float, float]], ends: float) -> QuotaView:
    """What is left of the session time that the user allows for the week that ends at `ends`.

    Args:
        sessions: from when to when each has lasted, or may last while it runs.
    """
    starts = ends - WEEK_S
    used_s = sum(max(0.0, until - max(since, starts)) for since, until in sessions)
    return QuotaView(max(0.0, per_week_s - used_s), per_week_s, ends, is_own=True)


def week_ends(refresh_at: float | None, now: float) -> float:
    """When this week ends: as the platform says, else on Saturday at 00:00 UTC."""
    if refresh_at is not None and now < refresh_at <= now + WEEK_S:
        return refresh_at
    return now + WEEK_S - (now - FIRST_SATURDAY) % WEEK_S


def tighter(quota: QuotaView | None, other: QuotaView | None) -> QuotaView | None:
    """The one of two quotas of which less is left; None where there is none."""
    if quota is None or other is None:
        return quota or other
    less = quota if quota.left_s <= other.left_s else other
    return replace(less, total_s=min(quota.total_s, other.total_s))


def forecast(
    remaining: int, limit_s: float, *, pace: Pace | None, quota: QuotaView | None, now: float, rollout: int = 1
) -> Forecast | None:
    """When the target will be reached at this pace; None when no speed is known, or the sessions gain nothing."""
    if pace is None:
        return None
    at, left, sessions, used, between, waited = now, quota, 0, 0.0, 0.0, 0.0
    while remaining > 0 and sessions < MOST_SESSIONS:
        plan = plan_session(remaining, limit_s, pace=pace, quota=left, now=at, rollout=rollout)
        if isinstance(plan, TooShort):
            return None
        if isinstance(plan, NotWorthIt):
            assert left is not None
            waited += max(0.0, plan.until - at)
            at = max(plan.until, at)
            left = QuotaView(left.total_s, left.total_s, at + WEEK_S)
            renewed = plan_session(remaining, limit_s, pace=pace, quota=left, now=at, rollout=rollout)
            if isinstance(renewed, NotWorthIt):
                return None
            continue
        gained = plan.steps or 0
        if gained == 0:
            return None
        lasted = pace.setup_s + gained / pace.steps_per_s + (pace.ending_s or 0.0)
        remaining, sessions, used = max(0, remaining - gained), sessions + 1, used + lasted
        turnaround = pace.turnaround_s if remaining else 0.0
        at, between = at + lasted + turnaround, between + turnaround
        if left is not None:
            left = _after(left, lasted, at)
    return None if remaining > 0 else Forecast(at, sessions, used, between, waited)


def _after(quota: QuotaView, used_s: float, now: float) -> QuotaView:
    """The quota after a session, over a reset if one has passed."""
    if quota.refresh_at is not None and now >= quota.refresh_at:
        weeks = 1 + int((now - quota.refresh_at) // WEEK_S)
        return QuotaView(quota.total_s, quota.total_s, quota.refresh_at + weeks * WEEK_S)
    return QuotaView(max(0.0, quota.left_s - used_s), quota.total_s, quota.refresh_at)


def forecast_error(past: Sequence[PastSession]) -> float | None:
    """Median of (gained - expected) / expected over the sessions that had a forecast; None before the first."""
    errors = [
        (session.steps - session.expected_steps) / session.expected_steps for session in past if session.expected_steps
    ]
    return median(errors) if errors else None


def advice_on_gain(gain: float | None, accelerator_s: float) -> str:
    """What the measured gain of the accelerator over the CPU means; '' when it is worth its quota, or not known."""
    if gain is None or gain >= WORTHWHILE_GAIN:
        return ""
    return (
        f"the accelerator trains this network only {gain:.2g} times as fast as the CPU: without `accelerator` in "
        f"section.toml the rest would cost none of the weekly quota ({accelerator_s / 3600:.1f} h saved)"
    )
