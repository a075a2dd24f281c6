"""A command starts without the libraries that only other commands need."""

from __future__ import annotations

import subprocess
import sys

NOT_AT_START = {"kagglesdk", "requests", "apprise", "starlette", "uvicorn", "numpy", "torch", "tensorboard"}


def test_the_help_is_shown_without_any_library_of_a_single_command() -> None:
    code = "import sys; from kaggle_manager.cli.commands import call; call(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "kaggle_manager.cli.run" in loaded
    assert {name.partition(".")[0] for name in loaded} & NOT_AT_START == set()
    assert "rich.progress" not in loaded
