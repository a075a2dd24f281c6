"""A program that is pushed to Kaggle finds its folders under the names that every platform sets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kaggle_manager.platforms.kaggle import environment
from kaggle_manager.platforms.kaggle.environment import with_environment

SHOW = "import os\nprint([os.environ.get('KM_' + name) for name in ('WORKING_DIR', 'INPUT_DIR', 'MACHINE_NAME')])\n"
SHOW += "print(os.environ.get('KM_EMULATED_ACCELERATOR'))\n"


def said(source: str, **told: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KM_"))}
    command = [sys.executable, "-I", "-S", "-c", with_environment(source)]
    return subprocess.run(command, env=kept | told, text=True, capture_output=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("begins", ["", '"""What it does."""\n\nfrom __future__ import annotations\n\n'])
def test_kaggle_s_folders_are_named_before_anything_runs(begins: str) -> None:
    told = {"KAGGLE_CONTAINER_NAME": "kaggle-7", "KM_WORKING_DIR": "of another session"}
    assert said(begins + SHOW, **told) == ["['/kaggle/working', '/kaggle/input', 'kaggle-7']", "None"]


def test_a_kaggle_without_these_folders_says_where_they_are() -> None:
    told = {"KAGGLE_WORKING_DIR": "/w", "KAGGLE_INPUT_DIR": "/i"}
    emulated = {"KAGGLE_ACCELERATOR_EMULATED": "1", "KAGGLE_ACCELERATOR_FOUND": "T4"}
    assert said(SHOW, **told, **emulated) == ["['/w', '/i', 'unknown']", "T4"]


def test_what_is_no_python_is_sent_as_it_is() -> None:
    assert with_environment("def (") == "def ("
    assert len(with_environment("pass")) <= len("pass\n") + environment.BYTES
