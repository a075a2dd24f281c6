"""The arithmetic is pinned before torch is loaded, and told apart by what it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from kernels.rl_training import arithmetic


def fingerprint_in_a_new_process(**variables: str) -> dict[str, Any]:
    program = (
        "import json; from kernels.rl_training import arithmetic; arithmetic.make_deterministic('cpu'); "
        "print(json.dumps(arithmetic.fingerprint()))"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("ATEN_CPU_CAPABILITY", "MKL_CBWR")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_two_processes_compute_the_same_and_another_instruction_set_is_told() -> None:
    first = fingerprint_in_a_new_process()
    assert first["threads"] == 1
    assert arithmetic.differences(first, fingerprint_in_a_new_process()) == []
    if first["instruction_set"] != "AVX2":
        pytest.skip("no AVX2 here: there is nothing to pin")
    other = fingerprint_in_a_new_process(ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    told = arithmetic.differences(other, first)
    assert any(line.startswith("instruction_set: AVX2 -> ") for line in told)
    assert any(line.startswith("probe: ") for line in told), "the fixed computation itself must come out differently"


def test_a_user_who_chose_otherwise_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    arithmetic.pin()
    assert os.environ["OMP_NUM_THREADS"] == "3"
