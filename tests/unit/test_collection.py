"""pytest collects the same tests in the same order in every process, or pytest-xdist runs none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def collecting(*options: str, hash_seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--numprocesses=0", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT / "tests/support"), "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_order_of_the_tests_depends_neither_on_hashes_nor_on_addresses() -> None:
    one = collecting(hash_seed=1)
    other = collecting("-p", "scattered_functions", hash_seed=2)
    first, second = ([line for line in found.communicate()[0].splitlines() if "::" in line] for found in (one, other))
    assert (one.returncode, other.returncode) == (0, 0)
    assert len(first) > 1000
    assert first == second
