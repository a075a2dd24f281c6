"""What a session says of itself is believed only when it is of that session, and every end is put in words."""

from __future__ import annotations

import json

import pytest

from kaggle_manager.errors import LineageMismatch, OutputDamaged
from kaggle_manager.platforms.platform import EndCause
from kaggle_manager.protocol.session_result import SessionResult, parse_result
from kaggle_manager.runs.retry_policy import FailureKind
from kaggle_manager.sessions.outcome import Outcome, judge, last_traceback_line, normalised_failure

RESULT = {
    "schema": SessionResult.SCHEMA,
    "outcome": "completed",
    "exit_code": 0,
    "run_id": "r1",
    "generation": 2,
    "bundle_sha256": "b",
    "files": [{"name": "training_tree/x", "size": 3, "sha256": "0" * 64}],
    "something_newer": True,
}
LOG = """starting
Traceback (most recent call last):
  File "/tmp/km_code_abc/kernels/main.py", line 3, in run
    boom()
ValueError: step 17 went wrong
done
"""


def parsed(**changes: object) -> SessionResult:
    content = json.dumps({**RESULT, **changes}).encode()
    return parse_result(content, run_id="r1", generation=2, bundle_sha256="b")


def test_a_result_of_its_session_is_read_and_unknown_fields_do_not_matter() -> None:
    assert parsed().files[0].size == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run_id": "r2"}, "run: expected 'r1', found 'r2'"),
        ({"generation": 1}, "session: expected 2, found 1"),
        ({"bundle_sha256": "c"}, "code: expected 'b', found 'c'"),
    ],
)
def test_a_result_of_another_session_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(LineageMismatch, match=said):
        parsed(**change)


@pytest.mark.parametrize(
    "change",
    [{"outcome": "success"}, {"files": [{"name": "x", "size": -1, "sha256": "0" * 64}]}, {"files": [{"name": "x"}]}],
)
def test_what_is_no_result_is_damage(change: dict[str, object]) -> None:
    with pytest.raises(OutputDamaged):
        parsed(**change)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"x" * 5_000_000, b"[" * 100_000, rb'{"schema": 2, "reason": "\udce9"}']
)
def test_bytes_that_are_no_result_are_damage(content: bytes) -> None:
    with pytest.raises(OutputDamaged, match=r"is not a session's result \(\w"):
        parse_result(content, run_id="r1", generation=2, bundle_sha256="b")


def outcome_of(
    result: SessionResult | None,
    *,
    before: int = 5,
    after: int = 9,
    log: str = "",
    says: str = "ERROR",
    done: bool = False,
) -> Outcome:
    return judge(result=result, platform_says=says, log=log, step_before=before, step_after=after, target_reached=done)


def test_the_trainers_word_outranks_the_platforms_status() -> None:
    ended = outcome_of(parsed(), says="ERROR something")
    assert (ended.kind, ended.failure) == ("completed", "")
    assert "4 steps gained, 9 saved" in ended.why


def test_a_crash_names_the_last_line_of_its_traceback() -> None:
    ended = outcome_of(parsed(outcome="crashed", exit_code=1), log=LOG)
    assert "ValueError: step 17 went wrong" in ended.why
    assert ended.failure == "ValueError: step N went wrong"


def test_equal_causes_have_equal_fingerprints_and_others_differ() -> None:
    assert normalised_failure("OOM at 0x7f31 after 12 s") == normalised_failure("OOM at 0x1 after 999 s")
    assert normalised_failure("KeyError: 'a'") != normalised_failure("KeyError: 'b'")


def test_a_hard_kill_that_saved_steps_is_no_failure_and_one_that_saved_none_is() -> None:
    assert outcome_of(None).failure == ""
    assert outcome_of(None, after=5).failure != ""


def test_an_orderly_end_without_a_step_counts_as_a_failure_so_it_cannot_repeat_for_ever() -> None:
    assert outcome_of(parsed(outcome="interrupted"), after=5).failure != ""


def test_the_exception_is_found_in_a_log_with_text_behind_it() -> None:
    assert last_traceback_line(LOG) == "ValueError: step 17 went wrong"
    assert last_traceback_line("all fine") == ""


def test_divergence_is_a_kind_of_its_own_whatever_its_message_says_and_whatever_was_gained() -> None:
    error = {"type": "Diverged", "message": "The training has diverged: out of memory of good values.", "last_line": ""}
    ended = outcome_of(parsed(outcome="diverged", exit_code=1, error=error))
    assert (ended.kind, ended.failure_kind) == ("diverged", FailureKind.DIVERGED)
    assert ended.why.startswith("diverged: Diverged: The training has diverged")


TIMED_OUT = "CANCELLED Your notebook was stopped because it exceeded the max allowed execution duration."


def test_a_session_ended_at_its_limit_is_a_time_out_though_its_state_is_that_of_a_cancelled_one() -> None:
    ended = outcome_of(None, says=TIMED_OUT)
    assert (ended.failure, ended.step) == ("", 9)
    assert ended.why.startswith("ended by the platform at its time limit before it wrote its result")
    gained_nothing = outcome_of(None, after=5, says=TIMED_OUT, log=LOG)
    assert gained_nothing.failure_kind is FailureKind.NO_PROGRESS, "a longer session helps, not another try"
    assert outcome_of(None, after=5, says="CANCELLED").failure_kind is FailureKind.KILLED


def test_what_the_platform_knows_of_an_end_counts_more_than_what_the_log_shows() -> None:
    log = "Traceback (most recent call last):\n  x\nValueError: it was shown and the training went on"
    expected = {
        EndCause.TIME_LIMIT: FailureKind.NO_PROGRESS,
        EndCause.MEMORY: FailureKind.MEMORY,
        EndCause.PLATFORM: FailureKind.PLATFORM,
        EndCause.SETTINGS: FailureKind.ORDER,
        EndCause.UNKNOWN: FailureKind.CODE,
    }
    for cause in EndCause:
        outcome = judge(
            result=None,
            platform_says="ERROR job 7: so",
            end_cause=cause,
            log=log,
            step_before=0,
            step_after=0,
            target_reached=False,
        )
        assert outcome.failure_kind is expected[cause]
        assert ("job 7: so" in outcome.why) is bool(cause)


def test_an_end_that_the_user_asked_for_is_no_failure() -> None:
    asked = judge(
        result=None,
        platform_says="cancelled",
        log="",
        step_before=5,
        step_after=5,
        target_reached=False,
        asked_to_stop=True,
    )
    assert (asked.kind, asked.failure, asked.failure_kind) == ("stopped", "", FailureKind.NONE)


def test_a_session_that_ended_in_the_queue_is_not_said_to_have_been_killed_in_its_work() -> None:
    outcome = judge(
        result=None,
        platform_says="CANCELLED job 7 was cancelled",
        log="",
        step_before=0,
        step_after=0,
        target_reached=False,
        never_ran=True,
    )
    assert outcome.why == "ended before it ran (CANCELLED job 7 was cancelled); 0 steps gained, 0 saved"
