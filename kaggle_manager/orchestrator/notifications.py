"""What is worth a message, and how it is said. Each thing is said once, however often it is met again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible, Diverged, KaggleManagerError, RemoteError
from kaggle_manager.notify.notifier import Delivery, Notifier, Occasion
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.told import cause_of
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.outcome import Outcome
from kaggle_manager.system.formatting import count, duration, epoch, for_people

# A forecast that moved by less than this, or by less than this share of what is left, has not slipped.
SLIP_S, SLIP_SHARE = 6 * 3600.0, 0.2
FINISHED = "finished"
LASTING = "lasting-trouble"  # the cause that is told, however the platform's trouble is worded


def session_ended(notifier: Notifier, run: RunContext, generation: int, outcome: Outcome) -> None:
    title = f"{run.config.name}: session {generation} ended at step {outcome.step} of {run.config.target}"
    notifier.send(
        Occasion.SESSION_ENDED,
        title,
        outcome.why,
        _facts(run.config, run.row, generation=generation, kind=outcome.kind),
    )


def run_finished(notifier: Notifier, config: RunConfig, run: RunState) -> None:
    """Send that a run is finished, unless that was sent: a command may have died between the end and the message."""
    told = run.row.told.split()
    if FINISHED in told:
        return
    body = f"{why_finished(run)}. The models are in {config.tree}."
    sent = notifier.send(Occasion.RUN_FINISHED, f"{config.name}: finished", body, _facts(config, run.row))
    if _is_delivered(sent) or not sent:
        run.change(told=" ".join([*told, FINISHED]))


def why_finished(run: RunState) -> str:
    return f"{run.what_is_done}, over {count(run.totals.count, 'session')}"


def command_ended(
    notifier: Notifier,
    config: RunConfig,
    row: RunRow | None,
    error: KaggleManagerError,
    told: Collection[str],
    generation: int,
) -> str:
    """Send what ended a command, when it needs the user; the cause that is told by now, "" for none.

    Args:
        row: the run as it is with this error; None when the journal cannot say.
        told: the causes that the user knows.
        generation: number of the newest session; 0 for none, or when the journal cannot say.
    """
    lasts = row is not None and row.trouble is not None and row.trouble.is_lasting and isinstance(error, RemoteError)
    if error.retryable and not lasts:
        return ""
    cause, title = cause_of(error), "action required"
    occasion = Occasion.PERSON_NEEDED
    if lasts:
        cause, title = LASTING, "the platform has not answered for a day"
    elif isinstance(error, CheckpointIncompatible):
        occasion, title = Occasion.INCOMPATIBLE_CHECKPOINT, "the checkpoint does not fit"
    elif isinstance(error, Diverged):
        title = "the training has diverged"
    if cause in told:
        return ""
    facts = _facts(config, row, error=type(error).__name__, generation=generation)
    return cause * _is_delivered(notifier.send(occasion, f"{config.name}: {title}", str(error), facts))


def settings_unreadable(notifier: Notifier, section: str, error: KaggleManagerError) -> bool:
    """Send what keeps a command from knowing what it is about; whether anybody has got it."""
    facts = {"section": section, "error": type(error).__name__}
    return _is_delivered(notifier.send(Occasion.PERSON_NEEDED, f"{section}: action required", str(error), facts))


def forecast_slipped(notifier: Notifier, run: RunContext) -> None:
    """Compare the newest forecast with the one that the user knows: the first, or the one that was last told."""
    newest = run.row.forecast
    if not newest:
        return
    known = {"done_at": newest["done_at"], "made_at": newest["made_at"], "target": run.config.target}
    told = newest.get("told")
    if told and told["target"] == run.config.target:
        before, now = epoch(told["done_at"]), epoch(newest["done_at"])
        slip, left = now - before, min(before - epoch(told["made_at"]), now - epoch(newest["made_at"]))
        if slip < max(SLIP_S, SLIP_SHARE * left):
            return
        title = f"{run.config.name}: the target will be reached {duration(slip)} later"
        body = f"It was forecast for {for_people(before)}, and is now for {for_people(now)}."
        facts = _facts(run.config, run.row, done_at=newest["done_at"])
        if not _is_delivered(notifier.send(Occasion.FORECAST_SLIPPED, title, body, facts)):
            return
    run.state.change(forecast={**newest, "told": known})


def _is_delivered(deliveries: Iterable[Delivery]) -> bool:
    """Whether anybody has got the message; what nobody got is sent again."""
    return any(delivery.delivered for delivery in deliveries)


def _facts(config: RunConfig, row: RunRow | None, **more: object) -> dict[str, object]:
    return {
        "run_id": row.run_id if row else "",
        "section": config.section.name,
        "scenario": config.scenario_name,
        "seed": config.seed,
        "target": config.target,
        **more,
    }
