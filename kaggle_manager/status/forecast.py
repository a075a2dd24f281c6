"""What comes next of a run and when its target will be reached, from what its sessions measured. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import RemoteError, StorageError
from kaggle_manager.runs import budget
from kaggle_manager.runs.budget import NotWorthIt, QuotaView, TooShort
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.metrics import accelerator_gain, past_sessions
from kaggle_manager.sessions.week import own_quota, pool_of
from kaggle_manager.status.report import REPORT_SCHEMA, RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.system.accelerators import remark
from kaggle_manager.system.formatting import count, duration, epoch, for_people, iso
from kaggle_manager.trees.current_run import current_run
from kaggle_manager.trees.inspect import saved_step


@dataclass(frozen=True)
class RunForecast:
    """The next session and the date of the target.

    Attributes:
        step, target: saved and asked for. unit: what they are called: timesteps, or as a script says.
        steps_per_s: of the last sessions, each weighed by its training time; None before the first.
        setup_s, turnaround_s: medians of the last sessions: before the first step, and between two sessions.
        next_session: in words: how long, how many steps, or until when to wait.
        done_at: ISO 8601; None while nothing is measured.
        sessions, accelerator_s: still to come.
        between_s, quota_wait_s: what else lies before that date: between sessions, and waiting for the quota.
        forecast_error: median of (gained - expected) / expected of the earlier sessions; None before the first.
        missed_by_s: how much later than its first forecast the run is now expected; None without one.
        uses_quota: whether the week has a quota: the platform's for accelerators, or the user's own.
        quota_left_s, quota_refresh_at: of the week; None when unknown or not used.
        quota_is_own: whether what is left is what the user allows, and not the platform.
        advice: about the accelerator; '' when it is worth its quota, or not measured.
    """

    run_id: str
    step: int
    target: int
    unit: str
    steps_per_s: float | None
    setup_s: float | None
    turnaround_s: float | None
    next_session: str
    done_at: str | None
    sessions: int | None
    accelerator_s: float | None
    between_s: float | None
    quota_wait_s: float | None
    forecast_error: float | None
    missed_by_s: float | None
    uses_quota: bool
    quota_left_s: float | None
    quota_refresh_at: str | None
    quota_is_own: bool
    advice: str

    def as_json(self) -> dict[str, Any]:
        return {"schema": REPORT_SCHEMA, **asdict(self)}

    def lines(self) -> Iterator[str]:
        yield f"{self.step} of {self.target} {self.unit} are saved"
        if self.steps_per_s is not None and self.setup_s is not None:
            between = f", {duration(self.turnaround_s)} between sessions" if self.turnaround_s is not None else ""
            yield f"pace: {self.steps_per_s:.3g} steps/s after {self.setup_s:.0f} s of set-up{between}"
        if self.quota_left_s is not None:
            fresh = f", fresh on {for_people(epoch(self.quota_refresh_at))}" if self.quota_refresh_at else ""
            own = " of what --quota-per-week allows" if self.quota_is_own else ""
            yield f"quota: {self.quota_left_s / 3600:.1f} h left this week{own}{fresh}"
        elif self.uses_quota:
            yield "quota: not known now; the forecast assumes that it is enough"
        yield f"next session: {self.next_session}"
        if self.done_at is not None:
            parts = [f"{count(self.sessions or 0, 'more session')} of {duration(self.accelerator_s or 0)} in all"]
            parts += [f"{duration(self.between_s)} between them"] if self.between_s else []
            parts += [f"{duration(self.quota_wait_s)} of waiting for the weekly quota"] if self.quota_wait_s else []
            yield f"target: {for_people(epoch(self.done_at))} ({', '.join(parts)})"
        elif self.step >= self.target:
            yield "target: reached"
        else:
            yield "target: no date before a session has ended and left its speed"
        if self.forecast_error is not None:
            more = "more" if self.forecast_error >= 0 else "fewer"
            yield f"earlier forecasts: {abs(self.forecast_error):.0%} {more} steps gained than forecast (median)"
        if self.missed_by_s is not None:
            late = "later" if self.missed_by_s > 0 else "earlier"
            yield f"since the first forecast the date moved {duration(abs(self.missed_by_s))} {late}"
        if self.advice:
            yield self.advice


def forecast_run(
    config: RunConfig, connect_to: Callable[[RunConfig], Connection] | None, journal: Journal, now: float
) -> RunForecast:
    """Forecast the rest of the newest run of `config`'s tree, or the whole of a new one.

    Args:
        connect_to: how to reach whom to ask for the quota, when the section uses one, and how long a session may last,
            where that is not known; None: without.
    """
    row = current_run(config, journal)
    state = None if row is None else RunState(journal, row)
    report = None if state is None else describe_run(state, now)
    sessions = journal.sessions(row.run_id) if row else []
    if row is not None:
        config = config.with_stored(row.target, row.settings).at_home(row.platform)
    past = past_sessions(sessions)
    pace, step = (
        budget.measure(past),
        report.step if report else saved_step(TrainingTree(config.tree, config.scenario_name)),
    )
    remaining = max(0, config.target - step)
    connection = _connection(config, connect_to)
    quota, has_quota = _quota(config, connection, journal, now)
    limit_s = config.session_limit_s if connection is None else connection.session_limit_s(config)
    rollout = config.scenario.rollout
    following = budget.plan_session(remaining, limit_s, pace=pace, quota=quota, now=now, rollout=rollout)
    seen = budget.forecast(remaining, limit_s, pace=pace, quota=quota, now=now, rollout=rollout)
    if pace is None and isinstance(following, budget.SessionPlan):
        following = replace(following, why=_why_unmeasured(report))
    forecasts = journal.events(row.run_id, "forecast") if row else []
    first = epoch(forecasts[0]["detail"]["done_at"]) if forecasts else None
    return RunForecast(
        run_id=row.run_id if row else "",
        unit=config.scenario.unit,
        step=step,
        target=config.target,
        steps_per_s=pace.steps_per_s if pace else None,
        setup_s=pace.setup_s if pace else None,
        turnaround_s=pace.turnaround_s if pace else None,
        next_session="none: the target is reached" if not remaining else _in_words(following),
        done_at=iso(seen.done_at) if seen and remaining else None,
        sessions=seen.sessions if seen else None,
        accelerator_s=seen.accelerator_s if seen else None,
        between_s=seen.between_s if seen else None,
        quota_wait_s=seen.quota_wait_s if seen else None,
        forecast_error=budget.forecast_error(past),
        missed_by_s=seen.done_at - first if seen and remaining and first is not None else None,
        uses_quota=has_quota,
        quota_left_s=quota.left_s if quota else None,
        quota_refresh_at=iso(quota.refresh_at) if quota and quota.refresh_at else None,
        quota_is_own=quota is not None and quota.is_own,
        advice=budget.advice_on_gain(accelerator_gain(sessions), seen.accelerator_s if seen else 0.0)
        or remark(config.section.kernel.accelerator),
    )


def _why_unmeasured(report: RunReport | None) -> str:
    speed = report.progress.get("steps_per_s") if report else None
    if speed:
        return f"the session that runs tells of {speed:.3g} steps/s, which counts once it has ended"
    return "no session has ended and left its speed"


def _connection(config: RunConfig, connect_to: Callable[[RunConfig], Connection] | None) -> Connection | None:
    """Whom to ask; None where there is nothing to ask, or nobody."""
    needs_nobody = not config.trains_elsewhere and config.section.kernel.accelerator is None
    if connect_to is None or (needs_nobody and config.quota_per_week_s is None):
        return None
    try:
        return connect_to(config)
    except (RemoteError, StorageError, OSError):  # no network; the local Kaggle cannot be started in a read-only folder
        return None


def _quota(
    config: RunConfig, connection: Connection | None, journal: Journal, now: float
) -> tuple[QuotaView | None, bool]:
    """What is left of the week, as far as it is known, and whether there is a quota."""
    if connection is None:
        return None, config.section.kernel.accelerator is not None or config.quota_per_week_s is not None
    try:
        week, is_known = connection.quota_for(config), True
    except RemoteError:  # the forecast shows that the quota is not known
        week, is_known = None, False
    pool = pool_of(config, connection.platform, connection.owner)
    quota = budget.tighter(week, own_quota(config, journal, pool, week, now))
    return quota, quota is not None or not is_known


def _in_words(plan: budget.SessionPlan | NotWorthIt | TooShort) -> str:
    if isinstance(plan, TooShort):
        return f"none: {plan.why}; {plan.what_to_do}"
    if isinstance(plan, NotWorthIt):
        return f"not before {for_people(plan.until)}: {plan.why}"
    steps = f"{plan.steps} steps, " if plan.steps is not None else ""
    return f"{steps}at most {duration(plan.timeout_s)}, training until {duration(plan.deadline_s)} ({plan.why})"
