"""In what two checkpoints of a script differ: values, not how a file writes them down."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from kaggle_manager.trainer.script.differences import entries, summed_up


def test_two_files_of_torch_with_the_same_values_do_not_differ(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    name = "step"
    torch.save([{name: torch.ones(2)}, {name: 1}], one)
    torch.save([{name: torch.ones(2)}, {"".join("step"): 1}], two)  # another object, as after a resume
    assert one.read_bytes() != two.read_bytes()
    assert entries(one, two) == []
    torch.save([{name: torch.zeros(2)}, {name: 2}], two)
    assert entries(one, two) == ["[0].step", "[1].step"]


def test_entries_of_json_are_named_and_what_cannot_be_opened_is_not_called_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps({"log": [{"loss": 1.5, "runtime": 3}]}))
    two.write_text(json.dumps({"log": [{"loss": 1.5, "runtime": 4}]}))
    assert entries(one, two) == ["log[0].runtime"]
    two.write_text("{")
    assert entries(one, two) is None
    for path in (one, two):
        path.with_suffix(".bin").write_bytes(path.read_bytes())
    assert entries(one.with_suffix(".bin"), two.with_suffix(".bin")) is None


def test_the_many_numbers_of_a_generator_are_one_entry_by_name() -> None:
    numbers = [f"state.pt: random.python[1][{number}]" for number in range(625)]
    assert summed_up(["loss.json: log[0].runtime", *numbers, "state.pt: total"]) == [
        "loss.json: log[0].runtime",
        "state.pt: random.python (625 values)",
        "state.pt: total",
    ]
