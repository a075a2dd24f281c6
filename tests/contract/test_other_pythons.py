"""The Pythons and numpys of Kaggle's images: what travels into a session does the same there, without a warning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from other_pythons import NUMPY_OF, find_python, pins

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests/support/travelling_set.py"
# Never written: the checkout is this test's own input.
ENVIRON = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", ""), "PYTHONDONTWRITEBYTECODE": "1"}


def grow(python: Path, folder: Path, places: Path | None = None) -> dict[str, Any]:
    """The tree in `folder`, continued by that Python."""
    environ = {**ENVIRON, **({"PYTHONPATH": str(places)} if places else {})}
    command = [str(python), "-W", "error", str(PROGRAM), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.slow
@pytest.mark.parametrize("version", NUMPY_OF)
def test_what_travels_writes_reads_and_packs_the_same_bytes_under_an_images_python(
    version: str, tmp_path: Path
) -> None:
    python = find_python(version) or pytest.skip(f"no Python {version} on this machine")
    constraints, places = tmp_path / "constraints.txt", tmp_path / "packages"
    constraints.write_text(pins(version), encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", str(constraints)]
    installed = subprocess.run(
        [*pip, "--no-compile", "--target", str(places), "numpy", "pydantic"],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(
            f"numpy {NUMPY_OF[version]} for Python {version} cannot be installed here: {installed.stderr[-300:]}"
        )
    here = Path(sys.executable)
    mine, theirs = grow(here, tmp_path / "mine"), grow(python, tmp_path / "theirs", places)
    assert (theirs["python"].rpartition(".")[0], theirs["numpy"]) == (version, NUMPY_OF[version])
    assert {"kaggle_manager.trainer.entry", "kaggle_manager.checkpoints.replay_log"} <= set(theirs["imported"])
    same = ("imported", "step", "pack", "bundle", "identity")
    assert {what: theirs[what] for what in same} == {what: mine[what] for what in same}
    # Each continues what the other saved.
    mine, theirs = grow(here, tmp_path / "theirs"), grow(python, tmp_path / "mine", places)
    assert (mine["step"], mine["pack"]) == (theirs["step"], theirs["pack"])
