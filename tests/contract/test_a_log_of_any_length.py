"""A log stands never before what a session saved: however long it is, its outputs are listed, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def test_a_log_of_60_mb_is_read_within_150_mb_and_hides_no_output():
    """`scripts/benchmarks/log_memory.py` without options sends 2 GB, in every way that Kaggle sends a log."""
    command = [sys.executable, "scripts/benchmarks/log_memory.py", "--megabytes", "60", "--json"]
    command += ["--only", "outputs", "--only", "line"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {each["way"]: each for each in json.loads(done.stdout)}
    assert measured.keys() == {"outputs", "line"}
    assert max(each["largest_memory_mb"] for each in measured.values()) < 150
    assert {each["newest"] for each in measured.values()} == {"the end"}
    assert measured["outputs"]["files"] == ["a.txt"]
    assert measured["line"]["cpu_s"] < 5
