"""What is worth a message, and how it is said. Each thing is said once, however often it is met again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_manager.config import RunConfig
from kaggle_manager.console.formatting import duration, epoch, for_people
from kaggle_manager.errors import CheckpointIncompatible, KaggleManagerError, QuotaError, RemoteError
from kaggle_manager.notify.notifier import Notifier, Occasion
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.journal import RunRow
from kaggle_manager.sessions.outcome import Outcome

# A forecast that moved by less than this, or by less than this share of what is left, has not slipped.
SLIP_S, SLIP_SHARE = 6 * 3600.0, 0.2


def session_ended(notifier: Notifier, run: RunContext, generation: int, outcome: Outcome) -> None:
    title = f"{run.config.scenario_name}: session {generation} ended at step {outcome.step} of {run.config.target}"
    notifier.send(
        Occasion.SESSION_ENDED,
        title,
        outcome.why,
        _facts(run.config, run.row, generation=generation, kind=outcome.kind),
    )


def run_finished(notifier: Notifier, run: RunContext, why: str) -> None:
    title = f"{run.config.scenario_name}: finished"
    notifier.send(
        Occasion.RUN_FINISHED, title, f"{why}. The models are in {run.config.tree}.", _facts(run.config, run.row)
    )


def stopped_by(
    notifier: Notifier, config: RunConfig, row: RunRow, events: Sequence[Mapping[str, Any]], error: KaggleManagerError
) -> None:
    """An error that ended a command: told when it needs a person, and unless it was the last thing noted already."""
    if isinstance(error, RemoteError | QuotaError) or error.exit_code in (8, 130):
        return
    if _was_told(events, error):
        return
    incompatible = isinstance(error, CheckpointIncompatible)
    occasion = Occasion.INCOMPATIBLE_CHECKPOINT if incompatible else Occasion.PERSON_NEEDED
    title = f"{config.scenario_name}: {'the checkpoint does not fit' if incompatible else 'a person is needed'}"
    notifier.send(occasion, title, str(error), _facts(config, row, error=type(error).__name__))


def forecast_slipped(notifier: Notifier, run: RunContext) -> None:
    """Compare the two newest forecasts."""
    made = [event for event in run.events() if event["kind"] == "forecast"][-2:]
    if len(made) < 2:
        return
    before, now = (epoch(event["detail"]["done_at"]) for event in made)
    slip = now - before
    if slip < max(SLIP_S, SLIP_SHARE * (before - epoch(made[0]["at"]))):
        return
    title = f"{run.config.scenario_name}: the target will be reached {duration(slip)} later"
    body = f"It was forecast for {for_people(before)}, and is now for {for_people(now)}."
    notifier.send(
        Occasion.FORECAST_SLIPPED, title, body, _facts(run.config, run.row, done_at=made[1]["detail"]["done_at"])
    )


def _was_told(events: Sequence[Mapping[str, Any]], error: KaggleManagerError) -> bool:
    """Whether this very error was the last to be noted, and nothing went on since."""
    for event in reversed(events):
        if event["kind"] == "error":
            return bool(event["detail"]["message"] == error.message)
        if event["kind"] not in ("waits", "stopped", "forecast"):
            return False
    return False


def _facts(config: RunConfig, row: RunRow, **more: object) -> dict[str, object]:
    return {
        "run_id": row.run_id,
        "section": row.section,
        "scenario": row.scenario,
        "target": config.target,
        **more,
    }
