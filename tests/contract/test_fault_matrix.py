"""Whatever the platform does, a call ends in the right answer or in a typed error that says what comes next.

A representative part of `scripts/benchmarks/fault_matrix.py`, which judges every fault x every call.
"""

from __future__ import annotations

from collections.abc import Iterator

import fault_matrix
import hostile_stage
import pytest

# Each of these was found by the matrix, or guards a promise of its own; see docs/robustness_data.md.
ONCE = {
    ("429", "push"): "right",
    ("503 after doing it", "push"): "AmbiguousPush",
    ("503 after doing it", "publish: create"): "right",
    ("reset after doing it", "delete"): "right",
    ("reset", "publish: upload"): "right",
    ("HTML under 200", "publish: upload"): "right",
    ("expired link", "publish: upload"): "right",
    ("expired link", "download"): "right",
    ("slow drip", "list outputs"): "right",
    ("slow drip", "download"): "right",
    ("cut", "download"): "right",
    ("cut, length fits", "download"): "right",
    ("length too short", "download"): "right",
    ("another file", "download"): "right",
    ("HTML under 200", "stored log"): "right",
    ("stall", "stored log"): "right",
    ("reset in the body", "live log"): "right",
    ("push refused", "push"): "CapacityReached",
    ("inputs dropped", "push with input"): "PushMismatch",
    ("partial listing", "download: list"): "OutputDamaged",
}
FOR_EVER = {
    ("reset in the body", "download"): "Unavailable",
    ("slow drip", "quota"): "Unavailable",
    ("flipped bit", "download"): "OutputDamaged",
    ("cut, no length", "download"): "OutputDamaged",
    ("version ignored", "download: list"): "OutputDamaged",
    ("expired token", "status"): "AuthError",
    ("expired token", "push"): "AuthError",
    ("expired token", "download: list"): "AuthError",
    ("expired token", "live log"): "AuthError",
    ("still RUNNING", "status"): "accepted",
    ("quota held by others", "quota"): "accepted",
    ("other sizes", "publish: list files"): "right",
}


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Iterator[hostile_stage.Stage]:
    with hostile_stage.stage(tmp_path_factory.mktemp("stage") / "kaggle") as built:
        yield built


def _name(value: object) -> str:
    return " x ".join(value) if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("cell", "verdict"), ONCE.items(), ids=_name)
def test_a_fault_that_strikes_once(at, cell, verdict):
    judged = fault_matrix.judge(at, *cell, lasting=False)
    assert judged.verdict == verdict, judged.detail


@pytest.mark.parametrize(("cell", "verdict"), FOR_EVER.items(), ids=_name)
def test_a_fault_that_strikes_for_ever(at, cell, verdict):
    judged = fault_matrix.judge(at, *cell, lasting=True)
    assert judged.verdict == verdict, judged.detail


def test_an_expired_token_is_said_in_words_that_help(at):
    judged = fault_matrix.judge(at, "expired token", "status", lasting=True)
    assert "expired" in judged.detail
    assert "create a new token" in judged.detail


def test_every_kind_of_fault_is_in_the_matrix():
    played = {fault["kind"] for fault in fault_matrix.FAULTS.values()}
    assert set(fault_matrix.fault_plan.KINDS) == played


def test_the_judge_can_say_no(at):
    """The matrix proves nothing unless it notices a wrong file, a foreign exception and a missing next step."""

    def wrong(stage, client):
        raise hostile_stage.Wrong("other bytes")

    def foreign(stage, client):
        raise KeyError("status")

    def silent(stage, client):
        raise fault_matrix.KaggleManagerError("no")

    for act, verdict in ((wrong, "WRONG"), (foreign, "FOREIGN"), (silent, "NO NEXT STEP")):
        column = (act.__name__, act, "GetKernel")
        fault_matrix.COLUMNS.append(column)
        try:
            judged = fault_matrix.judge(at, "reset", act.__name__, lasting=False)
        finally:
            fault_matrix.COLUMNS.remove(column)
        assert judged.verdict == verdict
        assert not judged.is_good
