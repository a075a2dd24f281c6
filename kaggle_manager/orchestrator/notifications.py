"""What is worth a message, and how it is said. Each thing is said once, however often it is met again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaggle_manager.config import RunConfig
from kaggle_manager.console.formatting import duration, epoch, for_people
from kaggle_manager.errors import CheckpointIncompatible, Interrupted, KaggleManagerError
from kaggle_manager.notify.notifier import Notifier, Occasion
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.rows import RunRow
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


def command_ended(notifier: Notifier, config: RunConfig, row: RunRow | None, error: KaggleManagerError) -> bool:
    """An error that ended a command, when it needs the user and was not told before; whether it was told now."""
    if error.retryable or isinstance(error, Interrupted) or (row is not None and row.told == error.message):
        return False
    incompatible = isinstance(error, CheckpointIncompatible)
    occasion = Occasion.INCOMPATIBLE_CHECKPOINT if incompatible else Occasion.PERSON_NEEDED
    title = f"{config.scenario_name}: {'the checkpoint does not fit' if incompatible else 'a person is needed'}"
    notifier.send(occasion, title, str(error), _facts(config, row, error=type(error).__name__))
    return True


def forecast_slipped(notifier: Notifier, run: RunContext, earlier: Mapping[str, Any]) -> None:
    """Compare the newest forecast with the one before it; `{}` for none."""
    newest = run.row.forecast
    if not earlier or not newest or newest == earlier:
        return
    before, now = epoch(earlier["done_at"]), epoch(newest["done_at"])
    slip = now - before
    if slip < max(SLIP_S, SLIP_SHARE * (before - epoch(earlier["made_at"]))):
        return
    title = f"{run.config.scenario_name}: the target will be reached {duration(slip)} later"
    body = f"It was forecast for {for_people(before)}, and is now for {for_people(now)}."
    notifier.send(Occasion.FORECAST_SLIPPED, title, body, _facts(run.config, run.row, done_at=newest["done_at"]))


def _facts(config: RunConfig, row: RunRow | None, **more: object) -> dict[str, object]:
    return {
        "run_id": row.run_id if row else "",
        "section": config.section.name,
        "scenario": config.scenario_name,
        "target": config.target,
        **more,
    }
