"""What `scontrol` and `sacct` print of a job, as Slurm 22 and 23 print it, and what it means for a session."""

from __future__ import annotations

import pytest

from kaggle_manager.platforms.platform import EndCause, SessionState
from kaggle_manager.platforms.slurm.job_state import Job, end_of, read_sacct, read_scontrol, status_of

SCONTROL = (
    "JobId=12 JobName=km-run UserId=ann(1000) GroupId=ann(1000) MCS_label=N/A Priority=4294901749 Nice=0 "
    "Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency=(null) Requeue=0 Restarts=0 BatchFlag=1 "
    "Reboot=0 ExitCode=0:15 RunTime=1-00:00:21 TimeLimit=2-00:01:00 Command=/home/JobState=x/job.sh Comment=km:km/1 \n"
)


@pytest.mark.parametrize(
    ("printed", "state", "cause"),
    [
        ("1234|COMPLETED|0:0|00:01:05", SessionState.COMPLETE, EndCause.UNKNOWN),
        ("1234|FAILED|1:0|00:01:05", SessionState.ERROR, EndCause.UNKNOWN),
        ("1234|CANCELLED by 1000|0:0|00:01:05", SessionState.CANCELLED, EndCause.UNKNOWN),
        ("1234|CANCELLED|0:15|00:01:05", SessionState.CANCELLED, EndCause.UNKNOWN),
        ("1234|TIMEOUT|0:0|00:01:05", SessionState.ERROR, EndCause.TIME_LIMIT),
        ("1234|DEADLINE|0:0|00:01:05", SessionState.ERROR, EndCause.TIME_LIMIT),
        ("1234|OUT_OF_MEMORY|0:125|00:01:05", SessionState.ERROR, EndCause.MEMORY),
        ("1234|NODE_FAIL|1:0|00:01:05", SessionState.ERROR, EndCause.PLATFORM),
        ("1234|BOOT_FAIL|0:0|00:01:05", SessionState.ERROR, EndCause.PLATFORM),
        ("1234|PREEMPTED|0:0|00:01:05", SessionState.ERROR, EndCause.PLATFORM),
        ("1234|PREEMPTED by 7|0:0|00:01:05", SessionState.ERROR, EndCause.PLATFORM),
        ("1234|SOMETHING_NEW|0:0|00:01:05", SessionState.UNKNOWN, EndCause.UNKNOWN),
    ],
)
def test_the_accounting_tells_ends_apart(printed: str, state: SessionState, cause: EndCause) -> None:
    job = read_sacct(f"{printed}\n")
    assert job is not None
    assert job.number == "1234"
    assert (status_of(job).state, status_of(job).cause, status_of(job).ran_s) == (state, cause, 65.0)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "\n",
        "1234.batch|COMPLETED|0:0\n",
        "1234|RUNNING|0:0\n",
        "1234|PENDING|0:0\n",
        "sacct: error: x|y\n",
        "7||\n",
    ],
)
def test_what_is_no_end_in_the_accounting_is_none(printed: str) -> None:
    """A job that runs there and is not known to the controller is one of whose end the accounting has not heard."""
    assert read_sacct(printed) is None


@pytest.mark.parametrize(
    ("state", "reason", "expected", "words"),
    [
        ("PENDING", "Priority", SessionState.QUEUED, ""),
        ("PENDING", "Resources", SessionState.QUEUED, ""),
        ("PENDING", "JobHeldUser", SessionState.QUEUED, "job 12: it is held by its user: scontrol release 12"),
        ("PENDING", "JobHeldAdmin", SessionState.QUEUED, "who alone can release it: scontrol release 12"),
        (
            "PENDING",
            "PartitionConfig",
            SessionState.QUEUED,
            "what is corrected there is for the next job",
        ),
        ("PENDING", "PartitionTimeLimit", SessionState.QUEUED, "more time than its partition gives"),
        ("PENDING", "AssocGrpGRES", SessionState.QUEUED, "Slurm says AssocGrpGRES"),
        ("PENDING", "ReqNodeNotAvail,_UnavailableNodes:n[1-3]", SessionState.QUEUED, "that it needs are down or"),
        ("RUNNING", "None", SessionState.RUNNING, ""),
        ("COMPLETING", "None", SessionState.RUNNING, ""),
        ("CANCELLED", "None", SessionState.CANCELLED, "job 12 was cancelled"),
        ("TIMEOUT", "TimeLimit", SessionState.ERROR, "ran out of the time"),
        ("NODE_FAIL", "NodeDown", SessionState.ERROR, "its node failed"),
        ("LAUNCH_FAILED", "launch_failed_requeued_held", SessionState.ERROR, "its node could not start it"),
        ("POWER_UP_NODE", "None", SessionState.QUEUED, ""),
        ("FAILED", "NonZeroExitCode", SessionState.ERROR, "ended by signal 15"),
    ],
)
def test_the_controller_tells_states_apart(state: str, reason: str, expected: SessionState, words: str) -> None:
    job = read_scontrol(SCONTROL.format(state=state, reason=reason))
    assert job == Job("12", state, reason, "0:15", 86_421.0)
    said = status_of(job)
    assert (said.state, said.ran_s) == (expected, 86_421.0)
    assert (words in said.failure_message) if words else said.failure_message == ""


@pytest.mark.parametrize("text", ["", "x", "-1", "0.5"])
def test_what_is_no_exit_code_is_no_end(text: str) -> None:
    assert end_of(text) is None
