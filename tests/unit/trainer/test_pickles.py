"""What the trainer keeps itself is read without running anything; the rest stays closed until it is asked for."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kaggle_manager.errors import CheckpointIncompatible, UnsafePickle
from kaggle_manager.trainer.sb3.env_probe import Exactness
from kaggle_manager.trainer.sb3.pickles import Apart, opened, packed, read_plain, read_tensors
from kaggle_manager.trainer.sb3.resume_point import STATE_SCHEMA, RunRecord, read_state, state_bytes

RECORD = RunRecord(7, Exactness("pickle", "", True), {"threads": 1}, 100)


class Simulator:
    """Stands for objects of the environment's code."""

    place = 3

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Simulator)

    __hash__ = object.__hash__


class Runs:
    """Its pickle makes a folder when it is opened."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._marker,)


@pytest.mark.parametrize(
    "value",
    [
        random.getstate(),
        np.random.default_rng(1).bit_generator.state,
        np.random.MT19937(1).state,
        {"a": np.arange(6).reshape(2, 3), "b": np.float32(2.5), "c": [None, True, 2**70, "text", b"bytes", {1, 2}]},
        deque([{"r": 1.0, "l": 3, "t": 0.1}], maxlen=100),
        np.array([[{"seen": np.zeros(2)}]], dtype=object),
    ],
)
def test_numbers_arrays_and_containers_stay_as_they_are(value: Any) -> None:
    assert packed(value) is value
    assert pickle.dumps(read_plain(pickle.dumps(value))) == pickle.dumps(pickle.loads(pickle.dumps(value)))


def test_only_the_part_that_is_not_plain_is_closed_and_comes_back() -> None:
    kept = packed({"layers": [Simulator()], "count": 3})
    assert isinstance(kept["layers"], Apart)
    assert kept["count"] == 3
    assert opened(read_plain(pickle.dumps(kept))) == {"layers": [Simulator()], "count": 3}


def test_what_another_numpy_wrote_is_read() -> None:
    data = pickle.dumps(np.arange(3), protocol=2)
    for spelling in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        text = data.replace(b"numpy._core.multiarray", spelling).replace(b"numpy.core.multiarray", spelling)
        assert read_plain(text).tolist() == [0, 1, 2]


def test_a_state_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    for hostile in (
        Runs(marker),
        {"schema": STATE_SCHEMA, "record": Runs(marker), "items": {}},
        {"schema": STATE_SCHEMA, "record": {}, "items": {"random": {"numpy": Runs(marker)}}},
    ):
        with pytest.raises(UnsafePickle, match=r"asks for \w+\.mkdir"):
            read_state(pickle.dumps(hostile))
    assert not marker.exists()


def test_reading_a_state_opens_nothing_of_the_environment(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    saved = state_bytes(RECORD, {"environment": {"layers": Runs(marker)}})
    items = read_state(saved).items
    assert not marker.exists()
    opened(items["environment"])
    assert marker.exists()


@pytest.mark.parametrize(
    "data", [b"", b"no pickle", pickle.dumps(7), pickle.dumps({"schema": STATE_SCHEMA, "record": 3, "items": 4})]
)
def test_a_state_that_is_none_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(CheckpointIncompatible, match="another version"):
        read_state(data)


def test_a_model_file_gives_tensors_and_nothing_else(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    honest, hostile = io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.ones(2)}, honest)
    torch.save({"weight": Runs(marker)}, hostile)
    for content, is_safe in ((honest, True), (hostile, False)):
        model = io.BytesIO()
        with zipfile.ZipFile(model, "w") as archive:
            archive.writestr("data", '{"policy": {":serialized:": "never looked at"}}')
            archive.writestr("policy.pth", content.getvalue())
        if is_safe:
            parameters, variables = read_tensors(model.getvalue(), "cpu")
            assert parameters["policy"]["weight"].tolist() == [1, 1]
            assert variables == {}
        else:
            with pytest.raises(UnsafePickle, match=r"policy\.pth"):
                read_tensors(model.getvalue(), "cpu")
    assert not marker.exists()
