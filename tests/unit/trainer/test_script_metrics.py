"""What a script tells: read as it grows, kept once, and never believed more than it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaggle_manager.errors import Diverged
from kaggle_manager.trainer.script.metrics import FILE, LONGEST_LINE, Metrics


def line(step: int, value: object, name: str = "loss") -> str:
    return json.dumps({"step": step, "name": name, "value": value}) + "\n"


def test_lines_are_taken_as_they_come_whole_and_odd_ones_are_counted(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept" / FILE)
    metrics.read()
    with (tmp_path / FILE).open("a") as file:
        file.write(line(1, 0.5) + line(2, 0.4)[:10])
        file.flush()
        metrics.read()
        assert metrics.step == 1
        file.write(line(2, 0.4)[10:] + "not json\n[]\n" + line(3, None) + "x" * (2 * LONGEST_LINE) + "\n" + line(4, 2))
        file.flush()
        metrics.read()
    assert (metrics.step, metrics.unread) == (4, 3)
    assert metrics.at("loss", 3) is None, "told of a later step"
    assert [json.loads(it)["step"] for it in metrics.kept.read_text().splitlines()] == [1, 2, 4]
    (tmp_path / FILE).write_text(line(5, 1))
    metrics.read()
    assert metrics.step == 5, "begun anew"


def test_what_was_told_of_steps_that_were_not_saved_is_forgotten(tmp_path: Path) -> None:
    kept = tmp_path / FILE
    kept.write_text(line(1, 0.5) + line(2, 0.4) + line(3, 0.3))
    metrics = Metrics(tmp_path / "new", kept)
    metrics.resume_at(2)
    assert kept.read_text() == line(1, 0.5) + line(2, 0.4)
    assert metrics.newest["loss"].value == 0.4


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_value_that_is_not_finite_is_a_divergence(value: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f'{{"step": 7, "name": "loss", "value": {value}}}\n')
    with pytest.raises(Diverged, match="diverged at step 7: loss is"):
        Metrics(tmp_path / FILE, tmp_path / "kept").read()
