"""The script of a Slurm job, run by this machine's bash: what it writes down of its end, whatever ends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.platforms.platform import EndCause, SessionState, SessionStatus
from kaggle_manager.platforms.slurm.job_script import job_script
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
