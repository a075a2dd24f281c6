"""The official client and its SDK are released in pairs: the one before the pinned pair does all it is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.cli.doctor.machine import TESTED_PAIRS

ROOT = Path(__file__).resolve().parents[2]
OLDER, PINNED = TESTED_PAIRS
# Every call that the manager makes, against the local Kaggle, and what a user does with the official command.
PLAYED = (
    "test_kaggle_api_local_kaggle.py",
    "test_kaggle_api_sdk.py",
    "test_local_kaggle_official_command.py::test_a_kernel_from_push_to_delete",
)


def test_the_newest_tested_pair_is_the_pinned_one() -> None:
    pins = dict(re.findall(r"^(kaggle|kagglesdk)==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    assert (pins["kaggle"], pins["kagglesdk"]) == PINNED


@pytest.mark.slow
def test_the_older_pair_does_all_that_is_asked_of_the_client(tmp_path: Path) -> None:
    wanted = [f"kaggle=={OLDER[0]}", f"kagglesdk=={OLDER[1]}"]
    # Alone: it asks for an older certifi than the pinned pair, and the rest of what it needs is here.
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    installed = subprocess.run([*pip, "--target", str(tmp_path), *wanted], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"{' and '.join(wanted)} cannot be installed here: {installed.stderr[-300:]}")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests/support")])}
    code = "import importlib.metadata as m; print(m.version('kaggle'), m.version('kagglesdk'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    assert tuple(found.stdout.split()) == OLDER, "it is what the tests import"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    tests = [str(ROOT / "tests/contract" / name) for name in PLAYED]
    done = subprocess.run([*command, *tests], capture_output=True, text=True, env=environ, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
