"""Only a state that this version wrote is opened; any other is refused in words."""

from __future__ import annotations

import pickle

import pytest

from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.sb3.env_probe import Exactness
from kaggle_manager.trainer.sb3.resume_point import STATE_SCHEMA, RunRecord, read_state, state_bytes

# What pickle writes for an object whose class is `gone.Class`.
OF_A_CLASS_THAT_IS_GONE = b"ckaggle_manager.gone_with_an_earlier_version\nClass\n."


def test_what_is_written_is_read_back() -> None:
    record = RunRecord(7, Exactness("pickle", "", True), {"threads": 1}, 100)
    saved = read_state(state_bytes(record, {"counters": 3}))
    assert saved.record == record
    assert saved.items == {"counters": 3}


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"schema": STATE_SCHEMA - 1, "journey": None, "items": {}}),
        OF_A_CLASS_THAT_IS_GONE,
        b"ckaggle_manager.trainer.sb3.resume_point\nJourney\n.",
    ],
    ids=["older", "module gone", "class gone"],
)
def test_a_state_of_another_version_is_refused_and_named_as_such(data: bytes) -> None:
    with pytest.raises(CheckpointIncompatible, match="written by another version of kaggle-manager") as refused:
        read_state(data)
    assert refused.value.safe
    assert "--fresh" in refused.value.next_step
