"""What a script tells: read as it grows, kept once, and never believed more than it says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kaggle_manager.errors import Diverged
from kaggle_manager.trainer.script.metrics import AT_ONCE, FILE, LONGEST_LINE, Metrics


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


def test_a_last_line_without_its_end_counts_when_nobody_writes_any_more(tmp_path: Path) -> None:
    for rest, step, unread in ((line(2, 0.4).strip(), 2, 0), (line(2, 0.4)[:10], 1, 1)):
        (tmp_path / FILE).write_text(line(1, 0.5) + rest)
        metrics = Metrics(tmp_path / FILE, tmp_path / "kept" / f"{step}.jsonl")
        metrics.read()
        assert metrics.step == 1
        metrics.read(looks=3, is_over=True)
        assert (metrics.step, metrics.unread) == (step, unread)
        assert len(metrics.kept.read_text().splitlines()) == step


def test_what_was_told_of_steps_that_were_not_saved_is_forgotten(tmp_path: Path) -> None:
    kept = tmp_path / FILE
    kept.write_text(line(1, 0.5) + line(2, 0.4) + line(3, 0.3))
    metrics = Metrics(tmp_path / "new", kept)
    metrics.resume_at(2)
    assert kept.read_text() == line(1, 0.5) + line(2, 0.4)
    assert metrics.newest["loss"].value == 0.4


def test_a_save_belongs_to_the_newest_value_that_is_of_no_later_step(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept", "loss")
    (tmp_path / FILE).write_text("".join(line(step, abs(step - 1000)) for step in range(1, 1200)))
    metrics.read()
    found = metrics.at("loss", 1000)
    assert found is not None
    assert found.value == 0, "though 199 later ones were told before anyone looked"


def test_a_look_reads_a_bounded_number_of_bytes_and_the_next_one_goes_on(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept")
    count = 3 * AT_ONCE // len(line(100_000, 0.5))
    (tmp_path / FILE).write_text("".join(line(100_000 + step, 0.5) for step in range(count)))
    metrics.read()
    assert 100_000 < metrics.step < 100_000 + count // 2
    metrics.read(looks=4)
    assert (metrics.step, metrics.unread) == (100_000 + count - 1, 0)


@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept")
    metrics.read()
    assert metrics.step == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_value_that_is_not_finite_is_a_divergence(value: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f'{{"step": 7, "name": "loss", "value": {value}}}\n')
    with pytest.raises(Diverged, match="diverged at step 7: loss is"):
        Metrics(tmp_path / FILE, tmp_path / "kept").read()
