"""A session's end in words, and the fingerprint by which equal failures are recognised. Pure.

The trainer's own last word outranks the platform's status: a session whose result says `completed` is completed even
if the platform calls it an error, and one that left no result is judged by what it saved.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaggle_manager.session_report import SessionResult, last_traceback_line, normalised_failure


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        kind: completed, interrupted, crashed, refused or killed.
        why: one line for people.
        failure: fingerprint of the failure; '' when the session did what it could.
        step: timesteps now saved.
    """

    kind: str
    why: str
    failure: str
    step: int


def judge(
    *,
    result: SessionResult | None,
    platform_says: str,
    log: str,
    step_before: int,
    step_after: int,
    target_reached: bool,
) -> Outcome:
    """Say how a session ended.

    Args:
        result: the trainer's last word, or None.
        platform_says: final status and failure message of the platform.
        step_before, step_after: timesteps saved in the training tree before and after this session.
        target_reached: whether the tree now holds the final model that was asked for.
    """
    gained = max(0, step_after - step_before)
    saved = f"{gained} steps gained, {step_after} saved"
    if result is None:
        cause = last_traceback_line(log) or platform_says
        # A hard kill that still saved something is the wall doing its work, not a fault to count.
        failure = "" if gained > 0 else normalised_failure(f"killed without gaining a step: {cause}")
        return Outcome("killed", f"killed without a last word ({cause}); {saved}", failure, step_after)
    if result.outcome in ("completed", "interrupted"):
        failure = "" if gained > 0 or target_reached else "ended before it could gain a step"
        reason = f" ({result.reason})" if result.reason else ""
        return Outcome(result.outcome, f"{result.outcome}{reason}; {saved}", failure, step_after)
    cause = (
        result.cause or last_traceback_line(log) or next(iter(result.reason.strip().splitlines()), "no reason given")
    )
    return Outcome(result.outcome, f"{result.outcome}: {cause}; {saved}", normalised_failure(cause), step_after)
