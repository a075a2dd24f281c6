"""The script for the day there is a GPU works, within its time, on a machine that has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
import torch
from gpu_check import ALGORITHMS, EXACT, NETWORKS, TYPICAL

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_each_part_says_its_first_row_on_a_cpu(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "scripts/gpu_check.py"), "--device", "cpu", "--quick", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text(encoding="utf-8"))
    assert [(row["part"], row["what"]) for row in report["rows"]] == [
        ("exactness", "dqn"),
        ("gain", "DQN MLP"),
        ("deterministic", "DQN MLP"),
        ("together", "DQN MLP"),
    ]
    exact, gain, _, together = report["rows"]
    assert (exact["differs in"], exact["kills"]) == ("nothing", 1)
    assert gain["steps/s"] > 0
    assert together["steps/s of two"] > 0
    assert report["left_out"] == []
    assert "| together | DQN MLP | steps/s alone " in done.stdout


def test_what_there_is_no_time_for_is_named_and_the_figures_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert gpu_check.main(["--device", "cpu", "--minutes", "0", "--json", str(file)]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["rows"] == []
    assert len(report["left_out"]) == len(EXACT) + len(ALGORITHMS) * len(NETWORKS) + 2 * len(TYPICAL)
    assert "not measured: exactness: dqn; " in capsys.readouterr().out


def test_bits_that_differ_end_it_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check.Check, "exact", lambda *_: {"differs in": "networks", "kills": 1})
    monkeypatch.setattr(gpu_check.Check, "speed", lambda *_, **__: 1.0)
    monkeypatch.setattr(gpu_check, "measure", lambda *_: [1.0, 1.0])
    assert gpu_check.main(["--device", "cpu", "--json", str(tmp_path / "figures.json")]) == 1


def test_a_row_that_fails_is_told_and_costs_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"

    def broken(*_: object) -> None:
        raise RuntimeError("dqn ended with code 1:\na long log")

    monkeypatch.setattr(gpu_check.Check, "exact", broken)
    monkeypatch.setattr(gpu_check.Check, "speed", lambda *_, **__: 1.0)
    monkeypatch.setattr(gpu_check, "measure", lambda *_: [1.0, 1.0])
    assert gpu_check.main(["--device", "cpu", "--json", str(file)]) == 1
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert {row["error"] for row in rows if row["part"] == "exactness"} == {"RuntimeError: dqn ended with code 1:"}
    assert all("error" not in row for row in rows if row["part"] != "exactness")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_try_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    assert "--device cpu --quick" in capsys.readouterr().err
