"""What is expected of a run before a push of it, written down to be compared with what comes."""

from __future__ import annotations

from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.budget import forecast, measure
from kaggle_manager.sessions.metrics import past_sessions
from kaggle_manager.system.formatting import iso


def note_forecast(run: RunContext, generation: int, remaining: int) -> None:
    """Write down what is left of the quota, and when the target should be reached."""
    quota = run.week  # as the plan was made with: a second answer may be another
    if quota is not None:
        run.note("quota", generation, left_s=quota.left_s, total_s=quota.total_s, refresh_at=quota.refresh_at)
    seen = forecast(
        remaining,
        run.session_limit_s,
        pace=measure(past_sessions(run.sessions)),
        quota=run.allowed,
        now=run.clock(),
        rollout=run.config.scenario.rollout,
    )
    if seen is not None:
        run.note(
            "forecast",
            generation,
            done_at=iso(seen.done_at),
            sessions=seen.sessions,
            accelerator_s=round(seen.accelerator_s),
            made_at=run.now(),
        )
