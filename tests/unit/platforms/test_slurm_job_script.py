"""The script of a Slurm job, run by this machine's bash: what it writes down of its end, whatever ends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.platform import EndCause, SessionState, SessionStatus
from kaggle_manager.platforms.slurm import job_script as scripts
from kaggle_manager.platforms.slurm.client import SlurmPlatform
from kaggle_manager.platforms.slurm.job_script import OLDEST_PYTHON, job_script
from kaggle_manager.platforms.slurm.job_state import end_of
from kaggle_manager.platforms.slurm.settings import SlurmSettings

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")


def ended(folder: Path, *setup: str, source: str = "raise SystemExit(3)") -> SessionStatus:
    """How a session with these lines of setup says that it ended."""
    (folder / "output").mkdir()
    (folder / "script.py").write_text(source)
    (folder / "job.sh").write_text(job_script(SlurmSettings(setup=setup), sys.executable))
    subprocess.run(["bash", "job.sh", str(folder)], cwd=folder, env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7"})
    said = end_of((folder / "ended").read_text())
    assert said is not None
    return said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("echo 'no module %s \\ $HOME' >&2; false", "no module %s \\ $HOME (it ended with exit code 1)"),
        ("source /nowhere/it's/activate", "unexpected EOF"),
        ("source '/nowhere/activate'", "No such file or directory"),
        ("if true; then\n  no-such-command\nfi", "no-such-command: command not found"),
        ("echo so; exit 4", "so (it ended with exit code 4)"),
        ("exit 0", "it ended with exit code 1"),
        ("trap - EXIT; cd /; false", "it ended with exit code 1"),
    ],
)
def test_a_line_of_setup_that_fails_ends_the_job_with_the_line_and_the_end_of_the_log(
    tmp_path: Path, line: str, words: str
) -> None:
    said = ended(tmp_path, "echo before", line, "touch output/after", source="open('output/trained', 'w')")
    assert (said.state, said.cause) == (SessionState.ERROR, EndCause.SETTINGS)
    assert f"before the training, '{' '.join(line.split(chr(10)))}' failed: " in said.failure_message
    assert words in said.failure_message
    assert list((tmp_path / "output").iterdir()) == []


def test_what_setup_makes_is_there_for_the_training(tmp_path: Path) -> None:
    lines = ("export A=1; alone=2", "f() { false; }", "f || true", "set -eu; km_here_too=3", "cd /", "trap - EXIT")
    said = ended(tmp_path, *lines, source="import os; raise SystemExit(len(os.environ['A']) + 4)")
    assert said == SessionStatus(SessionState.ERROR, "it ended with exit code 5", "FAILED")


def test_a_line_of_setup_that_a_signal_ends_has_not_failed_by_itself(tmp_path: Path) -> None:
    said = ended(tmp_path, "bash -c 'kill -9 $$'")
    assert said.cause is EndCause.UNKNOWN
    assert "it was ended by signal 9" in said.failure_message


def test_a_session_that_ends_well_is_complete(tmp_path: Path) -> None:
    assert ended(tmp_path, "true", source="pass").state is SessionState.COMPLETE


def python(folder: Path, version: str) -> str:
    """One that says it is this version."""
    (made := folder / "it's python").write_text(f"#!/bin/sh\necho km_python {version}\n")
    made.chmod(0o755)
    return str(made)


def test_a_python_that_is_too_old_is_said_before_anything_is_started(tmp_path: Path) -> None:
    platform = SlurmPlatform({"python": python(tmp_path, "3.9")}, tmp_path)
    with pytest.raises(ConfigError, match=r"it's python on this machine is Python 3\.9: sessions need 3\.11 or newer"):
        platform.check_python()


def test_a_setup_that_only_nodes_can_do_leaves_the_python_to_the_job(tmp_path: Path) -> None:
    options = {"python": python(tmp_path, "3.9"), "setup": ["module load what-only-a-node-has 2>/dev/null"]}
    SlurmPlatform(options, tmp_path).check_python()


def test_a_python_that_is_too_old_on_its_node_ends_the_job_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "OLDEST_PYTHON", (3, 99))
    said = ended(tmp_path, source="open('output/trained', 'w')")
    assert said.cause is EndCause.SETTINGS
    assert "sessions need 3.99 or newer" in said.failure_message
    assert list((tmp_path / "output").iterdir()) == []


def test_the_oldest_python_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={'.'.join(map(str, OLDEST_PYTHON))}"
