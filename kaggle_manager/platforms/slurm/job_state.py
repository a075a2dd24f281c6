"""What Slurm's words about a job mean for a session. Pure.

Never takes a word that it does not know for an end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.platform import EndCause, SessionState, SessionStatus
from kaggle_manager.platforms.slurm.settings import seconds_of

# What a job says that leaves before it has done anything: another one does its session's work, or it has no folder.
NOT_MINE, NO_FOLDER = 75, 74
# What is asked of the accounting, for `read_sacct`; the state of what a signal ended, in the words of `end_of`.
SACCT_OPTIONS = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode,Elapsed")
KILLED = "KILLED"
# An exit code above it is a signal's number, as shells have it; how much of what failed is told, in characters.
_SIGNALS, _LONGEST_FAILURE = 128, 600
_WAITS = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
    "POWER_UP_NODE",
)
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
    "LAUNCH_FAILED": ("its node could not start it", EndCause.PLATFORM),
    "RECONFIG_FAIL": ("its node could not be prepared for it", EndCause.PLATFORM),
    "DEADLINE": ("its deadline had passed", EndCause.TIME_LIMIT),
    "REVOKED": ("it ran on another cluster", EndCause.PLATFORM),
}
# Why a job waits: what is so every day needs no word, what waiting alone does not end has plain ones.
_EVERY_DAY = ("", "None", "Priority", "Resources")
_STUCK = {
    "JobHeldUser": "it is held by its user: scontrol release {job}",
    "JobHeldAdmin": "it is held by an administrator, who alone can release it: scontrol release {job}",
    "PartitionTimeLimit": "it asks for more time than its partition gives: time in [platform.slurm]",
    "PartitionConfig": "its partition never has what it asks for: cpus, memory and gpus in [platform.slurm]",
    "PartitionNodeLimit": "it asks for more nodes than its partition has: sbatch_options in [platform.slurm]",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is closed",
    "ReqNodeNotAvail": "the nodes that it needs are down or reserved",
    "BadConstraints": "no node has what it asks for: [platform.slurm]",
    "InvalidAccount": "its account is not one: account in [platform.slurm]",
    "InvalidQOS": "its QOS is not one: sbatch_options in [platform.slurm]",
    "DependencyNeverSatisfied": "what it depends on has failed: scancel {job}",
}


@dataclass(frozen=True)
class Job:
    """A job as Slurm shows it: its state in capital letters, why it waits, and how its script ended ("1:0").

    `ran_s` are the seconds that it has run; None where Slurm does not say.
    """

    number: str
    state: str
    reason: str = ""
    exit_code: str = ""
    ran_s: float | None = None


def read_scontrol(text: str) -> Job | None:
    """The job in one line of `scontrol --oneliner show job`; None for any other text."""
    # The first of a name counts: paths come after them.
    found = dict(re.findall(r"(?:^|\s)(JobId|JobState|Reason|ExitCode|RunTime)=(\S*)", text)[::-1])
    if "JobId" not in found or "JobState" not in found:
        return None
    ran_s = _seconds(found.get("RunTime", ""))
    return Job(found["JobId"], found["JobState"], found.get("Reason", ""), found.get("ExitCode", ""), ran_s)


def read_sacct(text: str) -> Job | None:
    """The job in what `sacct` prints with `SACCT_OPTIONS`; None for none.

    One that the controller does not know has ended: where the accounting calls it running, it has not heard of it.
    """
    for line in text.splitlines():
        number, state, code, ran = [*line.split("|"), "", "", ""][:4]
        word = state.partition(" ")[0]  # "CANCELLED by 1000"
        if number.isdigit() and word and word not in _WAITS + _RUNS:
            return Job(number, word, exit_code=code, ran_s=_seconds(ran))
    return None


def status_of(job: Job) -> SessionStatus:
    """What this job's state means; the session's own end, where it wrote one, counts more."""
    return replace(_meaning_of(job), ran_s=job.ran_s)


def _meaning_of(job: Job) -> SessionStatus:
    raw = job.state
    if raw in _WAITS:
        known = job.reason.partition(",")[0]  # "ReqNodeNotAvail,_UnavailableNodes:node[1-3]"
        reason = "" if job.reason in _EVERY_DAY else _STUCK.get(known, f"Slurm says {job.reason}")
        why = f"job {job.number}: {reason.format(job=job.number)}" if reason else ""
        if "[platform.slurm]" in why:
            why += "; what is corrected there is for the next job, after stop has ended this one"
        return SessionStatus(SessionState.QUEUED, why, raw)
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
    raw = KILLED if code > _SIGNALS else "FAILED"
    if not failed:
        return SessionStatus(SessionState.ERROR, _ended(f"{code}:0"), raw)
    # What a signal ended has not failed by itself.
    cause = EndCause.UNKNOWN if raw == KILLED else EndCause.SETTINGS
    return SessionStatus(
        SessionState.ERROR, f"{one_line(failed, _LONGEST_FAILURE)} ({_ended(f'{code}:0')})", "FAILED", cause
    )


def _seconds(time: str) -> float | None:
    try:
        return seconds_of(time)
    except ValueError:
        return None


def _ended(exit_code: str) -> str:
    code, _, number = exit_code.partition(":")
    if number.isdigit() and int(number):
        return f"it was ended by signal {number}"
    if code.isdigit() and int(code) > _SIGNALS:
        return f"it was ended by signal {int(code) - _SIGNALS}"
    if code == str(NO_FOLDER):
        return "its folder is not on its node: folder in [platform.slurm] has to lie on a disk that all nodes share"
    return f"it ended with exit code {code}" if code.isdigit() else "it failed"
