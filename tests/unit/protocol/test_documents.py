"""What one side writes the other reads, and a document of another version says which it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kaggle_manager.errors import CheckpointIncompatible, ConfigError, OutputDamaged
from kaggle_manager.protocol.document import Document
from kaggle_manager.protocol.launch_order import LaunchOrder, Parent, read_order
from kaggle_manager.protocol.session_result import OutputEntry, SessionError, SessionResult, parse_result
from kaggle_manager.protocol.session_start import ResumedFrom, SessionStart

WHO: dict[str, Any] = {"run_id": "r", "generation": 2, "bundle_sha256": "b" * 64}
ORDER = LaunchOrder(
    **WHO,
    section="s",
    section_folder="sections/s",
    scenario="walk",
    target=3000,
    seed=1,
    parent=Parent(manifest_sha256="a" * 64, min_step=10, dataset="me/km-walk-tree", vouched_by="made here"),
    packages=("gymnasium==1.0.0",),
    identity={"algorithm": "DQN", "spaces": [1, 2]},
)
START = SessionStart(
    **WHO, device="cpu", accelerator=None, target=3000, resumed=ResumedFrom(step=10, manifest_sha256="a" * 64)
)
RESULT = SessionResult(
    **WHO,
    outcome="crashed",
    exit_code=1,
    step=20,
    timings={"total": 1.5},
    error=SessionError(type="ValueError", message="é\nno", last_line="ValueError: é"),
    files=(OutputEntry(name="training_tree/x", size=3, sha256="0" * 64),),
)


@pytest.mark.parametrize("document", [ORDER, START, RESULT], ids=lambda document: type(document).__name__)
def test_what_is_written_reads_back(document: Document) -> None:
    body = json.loads(json.dumps(document.as_json()))
    assert next(iter(body)) == "schema"
    assert type(document).from_json(body) == document


@pytest.mark.parametrize(
    ("later", "maker"),
    [
        (-1, "; it was written by an earlier development version of kaggle-manager"),
        (1, "; it was written by a later version of kaggle-manager"),
        (None, ""),
    ],
)
def test_another_schema_is_refused_in_words_that_say_what_made_it(later: int | None, maker: str) -> None:
    def another(document: Document) -> tuple[dict[str, object], str]:
        schema = None if later is None else document.SCHEMA + later
        return {**document.as_json(), "schema": schema}, f"schema {schema} where {document.SCHEMA} is read{maker}"

    body, says = another(RESULT)
    with pytest.raises(CheckpointIncompatible if later == 1 else OutputDamaged) as not_read:
        parse_result(json.dumps(body).encode(), **WHO)
    assert says in not_read.value.message
    body, says = another(ORDER)
    with pytest.raises(ConfigError) as refused:
        read_order(body)
    assert says in refused.value.message
    assert refused.value.safe
    assert refused.value.next_step


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(ConfigError, match=r"parent\.min_step: Input should be greater"):
        read_order({**ORDER.as_json(), "parent": {**ORDER.as_json()["parent"], "min_step": -1}})


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_what_is_no_object_is_no_order(body: object) -> None:
    with pytest.raises(ConfigError, match="a JSON object is expected"):
        read_order(body)


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), 10**400, "many", None, True])
def test_a_figure_that_is_no_number_costs_only_itself(figure: object) -> None:
    told = RESULT.as_json() | {
        "timings": {"total": 2.5, "train": figure},
        "counts": {"updates": 3, "evaluations": figure, "half": 0.5},
        "accelerator_gain": figure,
    }
    read = parse_result(json.dumps(told).encode(), **WHO)
    assert (read.timings, read.counts, read.accelerator_gain) == ({"total": 2.5}, {"updates": 3}, None)
