"""What Slurm's words about a job mean for a session. Pure.

Never takes a word that it does not know for an end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.platform import EndCause, SessionState, SessionStatus

# What a job says that leaves before it has done anything: another one does its session's work, or it has no folder.
NOT_MINE, NO_FOLDER = 75, 74
# An exit code above it is a signal's number, as shells have it; how much of what failed is told, in characters.
_SIGNALS, _LONGEST_FAILURE = 128, 600
_WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNS = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING")
_FAILED = {
    "FAILED": ("", EndCause.UNKNOWN),
    "TIMEOUT": ("it ran out of the time that it had asked for", EndCause.TIME_LIMIT),
    "OUT_OF_MEMORY": (
        "it needed more memory than it had asked for: memory in [platform.slurm]",
        EndCause.MEMORY,
    ),
    "NODE_FAIL": ("its node failed", EndCause.PLATFORM),
    "PREEMPTED": ("another job took its place", EndCause.PLATFORM),
    "BOOT_FAIL": ("its node did not start", EndCause.PLATFORM),
    "DEADLINE": ("its deadline had passed", EndCause.TIME_LIMIT),
    "REVOKED": ("it ran on another cluster", EndCause.PLATFORM),
}
_HELD = {
    "JobHeldUser": "it is held by its user: scontrol release {job}",
    "JobHeldAdmin": "it is held by an administrator",
}


@dataclass(frozen=True)
class Job:
    """A job as Slurm shows it: its state in capital letters, why it waits, and how its script ended ("1:0")."""

    number: str
    state: str
    reason: str = ""
    exit_code: str = ""


def read_scontrol(text: str) -> Job | None:
    """The job in one line of `scontrol --oneliner show job`; None for any other text."""
    found = {name: re.search(rf"(?:^|\s){name}=(\S*)", text) for name in ("JobId", "JobState", "Reason", "ExitCode")}
    number, state = found["JobId"], found["JobState"]
    if number is None or state is None:
        return None
    reason, code = found["Reason"], found["ExitCode"]
    return Job(number[1], state[1], reason[1] if reason else "", code[1] if code else "")


def read_sacct(text: str) -> Job | None:
    """The job in `sacct -n -P -X -o JobID,State,ExitCode`; None for none."""
    for line in text.splitlines():
        number, _, rest = line.partition("|")
        state, _, code = rest.partition("|")
        if number.isdigit() and state:
            return Job(number, state.split()[0].rstrip("+"), exit_code=code)  # "CANCELLED by 1000"
    return None


def status_of(job: Job) -> SessionStatus:
    """What this job's state means; the session's own end, where it wrote one, counts more."""
    raw = job.state
    if raw in _WAITS:
        reason = _HELD.get(job.reason, job.reason if job.reason not in ("", "None") else "")
        return SessionStatus(SessionState.QUEUED, reason.format(job=job.number), raw)
    if raw in _RUNS:
        return SessionStatus(SessionState.RUNNING, "", raw)
    if raw == "COMPLETED":
        return SessionStatus(SessionState.COMPLETE, "", raw)
    if raw == "CANCELLED":
        return SessionStatus(SessionState.CANCELLED, f"job {job.number} was cancelled", raw)
    if raw in _FAILED:
        why, cause = _FAILED[raw]
        return SessionStatus(SessionState.ERROR, f"job {job.number}: {why or _ended(job.exit_code)}", raw, cause)
    return SessionStatus(SessionState.UNKNOWN, "", raw)


def end_of(text: str) -> SessionStatus | None:
    """The end that a session's job wrote itself; None for no such text.

    Args:
        text: the exit code of its process, and below it what failed before that was started.
    """
    number, _, failed = text.strip().partition("\n")
    if not number.isdigit():
        return None
    code = int(number)
    if code == 0:
        return SessionStatus(SessionState.COMPLETE, "", "COMPLETED")
    if not failed:
        return SessionStatus(SessionState.ERROR, _ended(f"{code}:0"), "FAILED")
    # What a signal ended has not failed by itself.
    cause = EndCause.UNKNOWN if code > _SIGNALS else EndCause.SETTINGS
    return SessionStatus(
        SessionState.ERROR, f"{one_line(failed, _LONGEST_FAILURE)} ({_ended(f'{code}:0')})", "FAILED", cause
    )


def _ended(exit_code: str) -> str:
    code, _, number = exit_code.partition(":")
    if number.isdigit() and int(number):
        return f"it was ended by signal {number}"
    if code.isdigit() and int(code) > _SIGNALS:
        return f"it was ended by signal {int(code) - _SIGNALS}"
    if code == str(NO_FOLDER):
        return "its folder is not on its node: folder in [platform.slurm] has to lie on a disk that all nodes share"
    return f"it ended with exit code {code}" if code.isdigit() else "it failed"
