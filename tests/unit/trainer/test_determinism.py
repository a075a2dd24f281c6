"""The arithmetic is pinned before torch is loaded, and told apart by what it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from kaggle_manager.trainer.sb3 import determinism

PROGRAM = """
import json
from kaggle_manager.trainer.sb3 import determinism
determinism.make_deterministic("cpu")
print(json.dumps(determinism.fingerprint()))
"""


def fingerprint_in_a_new_process() -> dict[str, Any]:
    clean = {key: value for key, value in os.environ.items() if key not in ("ATEN_CPU_CAPABILITY", "MKL_CBWR")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=clean, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_it_is_pinned_before_torch_is_loaded_and_two_processes_compute_the_same() -> None:
    theirs = fingerprint_in_a_new_process()
    assert theirs["threads"] == 1
    assert theirs["instruction_set"] in ("AVX2", "DEFAULT", "NO AVX")
    determinism.make_deterministic("cpu")  # as every training does first, whichever tests ran before this one
    ours = determinism.fingerprint()
    if ours["instruction_set"] != theirs["instruction_set"] or ours["mkl_cbwr"] != theirs["mkl_cbwr"]:
        pytest.skip("torch was loaded in this process before it was pinned")
    assert determinism.differences(ours, theirs) == []


def test_a_user_who_chose_otherwise_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    determinism.pin()
    assert os.environ["OMP_NUM_THREADS"] == "3"
