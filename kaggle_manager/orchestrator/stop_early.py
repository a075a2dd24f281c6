"""A run that is over before its target, for section.toml says when it is enough (`stop_when`).

An evaluation that is good enough ends the session that made it, and its result says so; hours are counted here, between
sessions. Either is kept with the newest session, and holds for the target and the `stop_when` it was met with: another
target, or another bound, continues.
"""

from __future__ import annotations

from typing import Any

from kaggle_manager.config import RunConfig
from kaggle_manager.runs import budget
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.metrics import past_sessions


def fact(config: RunConfig, target: int, why: str) -> dict[str, Any]:
    """What is kept with a session after which it is enough."""
    return {
        "early": {"target": target, "stop_when": config.scenario.stop_when.model_dump(exclude_none=True), "why": why}
    }


def why(state: RunState, config: RunConfig) -> str:
    """Why the run is over before its target; '' while it is not. What is found here is written down."""
    if state.newest is None:
        return ""
    known = state.newest.facts.get("early")
    if known and fact(config, config.target, known["why"])["early"] == known:
        return str(known["why"])
    hours, left = config.scenario.stop_when.session_hours, left_s(state, config)
    pace = budget.measure(past_sessions(state.sessions))
    if hours is None or budget.is_worth_a_session(left, pace):
        return ""
    used = f"{hours - left / 3600:.3g}"
    found = f"its sessions have lasted {used} h, and stop_when.session_hours is {hours:g}"
    state.add_facts(state.newest, **fact(config, config.target, found))
    return found


def left_s(state: RunState, config: RunConfig) -> float:
    """Seconds that are left to its sessions; infinite without a bound."""
    hours = config.scenario.stop_when.session_hours
    if hours is None:
        return float("inf")
    return 3600.0 * (hours - state.journal.hours_since(state.row.run_id, config.target))
