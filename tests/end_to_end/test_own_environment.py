"""Somebody else's environment, in their own folder: all commands of docs/own_environment.md, on the local Kaggle."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle.launcher import stop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/own_environment.md"
UNCUT = """
import json, sys
from pathlib import Path
from kaggle_manager.trainer.sb3.local_training import open_project, train_here
from kaggle_manager.trainer.runtime.session_clock import SessionClock
for name in sys.argv[2:]:
    project, section = open_project(name)
    train_here(project, section, name, base=Path(sys.argv[1]), clock=SessionClock(), quick=True)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project"
    kaggle = folder / ".kaggle_manager/local_kaggle"
    kaggle.mkdir(parents=True)
    (kaggle / "limits.json").write_text('{"ingestion_s": 0.0}')
    yield folder
    stop(kaggle)


def run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KM_"))}
    environment |= {"PYTHONPATH": str(ROOT), "KM_PLATFORM": "local", "HOME": str(folder), "USERPROFILE": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def exact_items(base: Path, name: str) -> dict[str, object]:
    """Digests of every part of the final state of a training."""
    final = CheckpointStore(TrainingTree(base / f"sections/{name}/data/models_quick", name)).final()
    assert final is not None
    assert final.manifest.exact["exact"] == "pickle"
    return dict(final.manifest.exact["items"])


def test_every_command_of_the_page_works_in_a_folder_of_ones_own_and_a_cut_training_is_exact(project: Path) -> None:
    commands = "".join(re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)).splitlines()
    sections = [shlex.split(command)[2] for command in commands if command.startswith("km init")]
    assert len(sections) == 2
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "km"
        said = run([sys.executable, "-m", "kaggle_manager.cli", *arguments], project)
        if arguments[0] == "run":
            assert "Resumed from step" in said
            assert "over 2 sessions" in said
    run([sys.executable, "-c", UNCUT, str(project / "uncut"), *sections], project)
    for name in sections:
        cut, uncut = exact_items(project, name), exact_items(project / "uncut", name)
        assert cut == uncut
        assert len(cut) > 3
    code = json.loads((project / "sections/my_robot/data/models_quick/training_metadata.json").read_text())
    assert code["algorithm"] == "SAC"


def test_every_link_of_the_page_resolves() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
