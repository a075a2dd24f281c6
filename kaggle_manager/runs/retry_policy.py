"""The kinds of failure a session can end with, and what each is worth trying again. Pure.

A kind has a budget - how many sessions in a row may end so before the user is asked - and a wait before the next try,
doubled each time. Waiting for room or for the weekly quota is no failure and costs nothing: see `lifecycle`.

Patience is measured between looks (`passed`), not from one date to another, so that neither a clock that is set nor a
machine that sleeps uses it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a session did not do what it could; NONE for one that did."""

    NONE = ""
    CODE = "code error"
    MEMORY = "out of memory"
    DEVICE = "wrong device"
    MOUNT = "mount mismatch"
    CHECKPOINT = "checkpoint refused"
    ORDER = "order refused"
    KILLED = "killed"
    WEDGED = "wedged"
    PLATFORM = "platform failure"
    WHEELS = "unfit wheels"
    NO_PROGRESS = "no progress"
    GONE = "kernel gone"
    OUTPUTS = "outputs refused"
    MISFILED = "filed elsewhere"
    DIVERGED = "diverged"
    SCRIPT = "script broke its contract"


@dataclass(frozen=True)
class Policy:
    """What a kind of failure is worth.

    Attributes:
        tries: sessions in a row that may end so; then the run stops for the user.
        wait_s: seconds before the next session after the first failure; doubled after each further one.
        advice: what the user can do about it.
        ends_the_run: the same run never continues, also when the user starts it again: only a new one does.
    """

    tries: int
    wait_s: float
    advice: str
    ends_the_run: bool = False


# Failures in a row, however they differ, that will not pass by themselves.
FAILURES_TO_STOP = 8
LONGEST_WAIT_S = 3600.0
# Trouble with the platform that has lasted so long needs the user.
LASTING_S = 24 * 3600.0
# Between two looks no more than this is known to have been trouble: the machine slept, or its clock was set.
LONGEST_GAP_S = 6 * 3600.0
_MINUTE = 60.0

POLICIES: dict[FailureKind, Policy] = {
    # The same code meets the same error: two more tries tell bad luck from a defect, and waiting changes nothing.
    FailureKind.CODE: Policy(3, 0.0, "fix the cause named in the log"),
    FailureKind.MEMORY: Policy(3, 0.0, "make buffer_size, batch_size or n_envs smaller"),
    FailureKind.NO_PROGRESS: Policy(
        3, 0.0, "give longer sessions (--session-limit), or read the log for what takes their time"
    ),
    # Sessions that leave within seconds: the platform may hand out the right thing a little later.
    FailureKind.DEVICE: Policy(3, 10 * _MINUTE, "choose another accelerator in section.toml, or wait"),
    FailureKind.MOUNT: Policy(5, 1 * _MINUTE, "look at what was published for it on the platform"),
    # What the user alone can decide.
    FailureKind.CHECKPOINT: Policy(1, 0.0, "see what differs"),
    FailureKind.ORDER: Policy(1, 0.0, "correct section.toml, or whatever else it names"),
    FailureKind.MISFILED: Policy(1, 0.0, "delete what it was filed as on the platform, which ends that session"),
    FailureKind.SCRIPT: Policy(1, 0.0, "correct the script, which docs/scripts.md says how to write"),
    # From the same state it would run away again; with other hyperparameters it is another training.
    FailureKind.DIVERGED: Policy(
        1,
        0.0,
        "lower the learning rate (or correct what the environment gives, where that is named) in section.toml",
        ends_the_run=True,
    ),
    # The platform's own trouble passes with time.
    FailureKind.KILLED: Policy(4, 1 * _MINUTE, "look at its page or folder on the platform"),
    FailureKind.WEDGED: Policy(3, 5 * _MINUTE, "read the log up to its silence"),
    # The next session has wheels for the Python that this one told; with these it would end in the same way.
    FailureKind.WHEELS: Policy(3, 1 * _MINUTE, "correct `packages` in section.toml, or let sessions have internet"),
    FailureKind.PLATFORM: Policy(6, 5 * _MINUTE, "look at the platform's own status page"),
    FailureKind.GONE: Policy(3, 0.0, "find out who deletes the kernel"),
    FailureKind.OUTPUTS: Policy(3, 1 * _MINUTE, "read what was refused"),
}


def passed(earlier: float, now: float) -> float:
    """Seconds between two looks, as far as they may count against anyone's patience."""
    return min(max(0.0, now - earlier), LONGEST_GAP_S)


def ends_the_run(kind: str) -> bool:
    """Whether a run of which a session ended so never continues; `kind` as in `FailureKind`."""
    return bool(kind) and POLICIES[FailureKind(kind)].ends_the_run


def wait_after(kind: FailureKind, in_a_row: int) -> float:
    """Seconds to wait after the `in_a_row`-th failure of `kind` in a row (1 for the first)."""
    if kind is FailureKind.NONE:
        return 0.0
    return min(LONGEST_WAIT_S, POLICIES[kind].wait_s * 2.0 ** min(in_a_row - 1, 30))
