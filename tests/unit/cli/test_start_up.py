"""A command starts without what only other commands need; scripts/benchmarks/start_up.py measures what that costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What no command needs before it has read its options; with pydantic Typer reads them.
NOT_FOR_HELP = {"rich", "sqlite3", "platformdirs"}
# What needs a network, a page or a training.
NOT_FOR_A_LOOK = {"kagglesdk", "requests", "apprise", "starlette", "uvicorn", "numpy", "torch", "tensorboard", "rich"}
ROOMS = {"config", "sections", "runs", "checkpoints", "platforms", "protocol", "sessions", "trees", "orchestrator"}


def loaded_by(*line: str) -> set[str]:
    code = f"import sys; from kaggle_manager.cli.commands import call; call({[*line]!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("line", [("--help",), ("run", "--help")])
def test_the_help_is_shown_without_any_library_or_room_of_a_single_command(line: tuple[str, ...]) -> None:
    loaded = loaded_by(*line)
    assert "kaggle_manager.cli.run" in loaded
    not_needed = NOT_FOR_HELP | NOT_FOR_A_LOOK | ({"pydantic"} if line == ("--help",) else set())
    assert {name.partition(".")[0] for name in loaded} & not_needed == set()
    assert {name.split(".")[1] for name in loaded if name.startswith("kaggle_manager.")} & ROOMS == set()


def test_the_runs_are_shown_without_what_only_a_training_or_a_platform_needs(tmp_path: Path) -> None:
    loaded = loaded_by("status", "--workdir", str(tmp_path))
    assert {name.partition(".")[0] for name in loaded} & NOT_FOR_A_LOOK == set()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("kaggle_manager.")}
    assert rooms & {"orchestrator", "trainer", "dashboard", "local_kaggle", "notify", "sweeps"} == set()
