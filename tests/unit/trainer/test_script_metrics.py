"""What a script tells: read as it grows, kept once, and never believed more than it says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kaggle_manager.errors import Diverged
from kaggle_manager.protocol.metrics import FILE, LONGEST_LINE
from kaggle_manager.trainer.script import metrics as module
from kaggle_manager.trainer.script.metrics import AT_ONCE, Metrics


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


def test_points_that_cannot_be_kept_now_are_told_and_kept_later(tmp_path: Path) -> None:
    told: list[str] = []
    (in_the_way := tmp_path / "kept").touch()
    (tmp_path / FILE).write_text(line(1, 0.5) + "not json\n" + line(2, 0.4))
    metrics = Metrics(tmp_path / FILE, in_the_way / FILE, warn=told.append)
    metrics.read()
    metrics.read()
    assert len(told) == 1
    in_the_way.unlink()
    metrics.read()
    assert metrics.kept.read_text() == line(1, 0.5) + line(2, 0.4)
    assert metrics.unread == 1


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


def test_curves_that_grow_too_large_get_thinner_and_never_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    told: list[str] = []
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept", warn=told.append)
    for begin in range(1, 2001, 100):
        with (tmp_path / FILE).open("a") as file:
            file.writelines(line(step, 1, name) for step in range(begin, begin + 100) for name in ("loss", "accuracy"))
        metrics.read()
        assert metrics.kept.stat().st_size <= 20_000
    said = [json.loads(it) for it in metrics.kept.read_text().splitlines()]
    for name in ("loss", "accuracy"):
        steps = [it["step"] for it in said if it["name"] == name]
        assert steps == sorted(steps)
        assert steps[-1] == 2000
        assert len(steps) > 50
        assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= 200
    assert metrics.left_out == 4000 - len(said)
    assert len(told) == 1
    assert "half of them are left out of the curves that are kept" in told[0]


def test_curves_of_ever_new_names_do_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept", warn=lambda _: None)
    for begin in range(0, 2000, 100):
        with (tmp_path / FILE).open("a") as file:
            file.writelines(line(step, 1, f"name {step}") for step in range(begin, begin + 100))
        metrics.read()
    assert metrics.kept.stat().st_size <= 20_000
    assert json.loads(metrics.kept.read_text().splitlines()[-1])["step"] == 1999


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


def test_what_was_told_before_a_divergence_is_kept_once_however_often_it_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(line(6, 0.5) + "not json\n" + '{"step": 7, "name": "loss", "value": NaN}\n')
    metrics = Metrics(tmp_path / FILE, tmp_path / "kept" / FILE)
    with pytest.raises(Diverged):
        metrics.read()
    metrics.read(looks=3, is_over=True)
    assert metrics.kept.read_text() == line(6, 0.5)
    assert metrics.unread == 1
