"""A session's end in words, the kind of its failure, and the fingerprint by which equal failures are recognised. Pure.

The session's own result outranks the platform's status: a session whose result says `completed` is completed even
if the platform calls it an error, and one that left no result is judged by what it saved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaggle_manager.platforms.platform import EndCause
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.runs.retry_policy import FailureKind

# Kinds by the type of the error a trainer names; anything else it died of is its code.
KINDS_BY_ERROR = {
    "LineageMismatch": FailureKind.MOUNT,
    "InputMissing": FailureKind.MOUNT,
    "CheckpointCorrupt": FailureKind.MOUNT,
    "WrongAccelerator": FailureKind.DEVICE,
    "CheckpointIncompatible": FailureKind.CHECKPOINT,
    "UntrustedTree": FailureKind.CHECKPOINT,
    "UnsafePickle": FailureKind.CHECKPOINT,
    "ConfigError": FailureKind.ORDER,
    "PackagesRefused": FailureKind.ORDER,
    "InstallFailed": FailureKind.PLATFORM,
    "WheelsUnfit": FailureKind.WHEELS,
    "BundleDamaged": FailureKind.PLATFORM,
    "MemoryError": FailureKind.MEMORY,
    "OutOfMemoryError": FailureKind.MEMORY,
    "Diverged": FailureKind.DIVERGED,
    **dict.fromkeys(("EndedEarly", "NothingSaved", "SavedBackwards", "CheckpointChanged"), FailureKind.SCRIPT),
    **dict.fromkeys(("StopIgnored", "ContractBroken"), FailureKind.SCRIPT),
}
KINDS_BY_CAUSE = {
    EndCause.TIME_LIMIT: FailureKind.NO_PROGRESS,
    EndCause.MEMORY: FailureKind.MEMORY,
    EndCause.PLATFORM: FailureKind.PLATFORM,
    EndCause.SETTINGS: FailureKind.ORDER,
}
# Kaggle's words for a session that it ended at its limit: its state is that of one that somebody cancelled.
TIMED_OUT = re.compile(r"exceeded the max\w* allowed (execution )?(duration|time)|timed out", re.I)
# What exhausted memory looks like otherwise; a process killed by SIGKILL was nearly always killed for its memory.
MEMORY_WORDS = ("out of memory", "cannot allocate memory", "unable to allocate", "ended with code -9")


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        kind: completed, interrupted, stopped, crashed, refused, diverged or killed.
        why: one line for people.
        failure: fingerprint of the failure; '' when the session did what it could.
        step: timesteps now saved.
        failure_kind: what sort of failure it was.
    """

    kind: str
    why: str
    failure: str
    step: int
    failure_kind: FailureKind = FailureKind.NONE


def judge(
    *,
    result: SessionResult | None,
    platform_says: str,
    end_cause: EndCause = EndCause.UNKNOWN,
    log: str,
    step_before: int,
    step_after: int,
    target_reached: bool,
    wedged: bool = False,
    never_ran: bool = False,
    asked_to_stop: bool = False,
    remedy: str = "",
    time_it_had: str = "",
) -> Outcome:
    """Say how a session ended.

    Args:
        result: the session's own; None when it left none.
        platform_says: final status and failure message of the platform.
        end_cause: why it ended without a result, where the platform knows.
        step_before, step_after: timesteps saved in the training tree before and after this session.
        target_reached: whether the tree now holds the final model that was asked for.
        wedged: whether it had been silent beyond the bound while the platform called it running.
        never_ran: whether it ended while it waited for its machine.
        asked_to_stop: whether the user asked for its end: then an end without a result, or a gain, is no failure.
        time_it_had: in words, what its limit left for training, where that was used up.
        remedy: what the user has to do against its error, where that is known; no other session does without.
    """
    gained = max(0, step_after - step_before)
    saved = f"{gained} {'step' if gained == 1 else 'steps'} gained, {step_after} saved"
    if asked_to_stop and (result is None or result.outcome == "interrupted"):
        return Outcome("stopped", f"ended, as `stop` asked; {saved}", "", step_after)
    if result is None:
        if not end_cause and TIMED_OUT.search(platform_says):
            end_cause = EndCause.TIME_LIMIT
        cause = platform_says if end_cause else last_traceback_line(log) or platform_says
        how = "ended by the platform at its time limit" if end_cause is EndCause.TIME_LIMIT else "killed"
        words = f"{'ended before it ran' if never_ran else f'{how} before it wrote its result'} ({cause}); {saved}"
        if gained > 0:  # a hard kill that still saved something is the wall doing its work, not a fault to count
            return Outcome("killed", words, "", step_after)
        failure = normalised_failure(f"{how} without gaining a step: {cause}")
        kind = KINDS_BY_CAUSE[end_cause] if end_cause else _kind_without_result(cause, log)
        return Outcome("killed", words, failure, step_after, FailureKind.WEDGED if wedged else kind)
    if result.outcome in ("completed", "interrupted"):
        reason = f" ({result.reason})" if result.reason else ""
        words = f"{result.outcome}{reason}; {saved}"
        if gained > 0 or target_reached:
            return Outcome(result.outcome, words, "", step_after)
        words += f"; {time_it_had}" if time_it_had else ""
        return Outcome(result.outcome, words, "ended before it could gain a step", step_after, FailureKind.NO_PROGRESS)
    cause = (
        result.cause or last_traceback_line(log) or next(iter(result.reason.strip().splitlines()), "no reason given")
    )
    kind = FailureKind.ORDER if remedy else _kind_of_error(result.error.type if result.error else "", cause)
    words = f"{result.outcome}: {cause}" + (f" - {remedy}" if remedy else "")
    return Outcome(result.outcome, f"{words}; {saved}", normalised_failure(cause), step_after, kind)


def _kind_of_error(name: str, cause: str) -> FailureKind:
    known = KINDS_BY_ERROR.get(name.rpartition(".")[2])
    if known is None and any(words in cause.lower() for words in MEMORY_WORDS):
        return FailureKind.MEMORY
    return known or FailureKind.CODE


def _kind_without_result(cause: str, log: str) -> FailureKind:
    if last_traceback_line(log):
        return _kind_of_error("", cause)
    return FailureKind.KILLED


def normalised_failure(text: str) -> str:
    """A failure without what changes from one time to the next: numbers, addresses, hashes, temporary names."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text.strip().splitlines()[-1] if text.strip() else "")
    text = re.sub(r"km_code_\w+|\b[0-9a-f]{8,}\b|\btmp\w{8}\b", "…", text)
    return re.sub(r"\d+", "N", text)[:300]


def last_traceback_line(log: str) -> str:
    """The last line of the last Python traceback in a log: the exception; '' when there is none."""
    start = log.rfind("Traceback (most recent call last):")
    if start < 0:
        return ""
    # The exception is the first line after the header that is not indented.
    for line in log[start:].splitlines()[1:]:
        if line.strip() and not line.startswith((" ", "\t")):
            return line.strip()
    return ""
