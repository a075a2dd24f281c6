"""What the commands of a cluster may say beside their answers. `sbatch` and `ssh` are a few lines of shell here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.platform import SessionRequest
from kaggle_manager.platforms.slurm import jobs
from kaggle_manager.platforms.slurm.client import SlurmPlatform
from kaggle_manager.platforms.slurm.job_script import ask_for_python, job_script, read_python
from kaggle_manager.platforms.slurm.settings import SlurmSettings
from kaggle_manager.platforms.slurm.shell import Shell

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that go before those of this machine."""
    (folder := tmp_path / "commands").mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    command(folder, "sbatch", "echo 7")
    command(folder, "squeue", ":")
    return folder


def command(folder: Path, name: str, lines: str) -> None:
    (file := folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)


def test_the_number_of_a_job_is_found_among_what_a_clusters_own_sbatch_prints(commands: Path, tmp_path: Path) -> None:
    command(commands, "sbatch", "echo 'Welcome to 12 nodes'; echo '--> 3 checks: OK'; echo '42;big'")
    platform = SlurmPlatform({}, tmp_path)
    started = platform.start(SessionRequest("me", "km-one", "pass"))
    assert started.url.startswith("job 42 on ")
    assert platform.newest("me", "km-one") == (started.version, "pass")


def test_why_sbatch_refused_is_told_also_where_it_is_not_printed_as_an_error(commands: Path, tmp_path: Path) -> None:
    command(commands, "sbatch", "echo 'FAILED: no allocation named rl-lab'; exit 1")
    with pytest.raises(ConfigError, match="no allocation named rl-lab"):
        SlurmPlatform({}, tmp_path).start(SessionRequest("me", "km-one", "pass"))


def test_a_job_whose_folder_was_deleted_is_ended_before_another_session_has_its_number(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_LOOK_S", 0.0)
    platform = SlurmPlatform({}, tmp_path)
    platform.start(SessionRequest("me", "km-one", "pass"))
    ended = tmp_path / "ended"
    command(commands, "squeue", f"[ -e '{ended}' ] || echo '7|km:km-one/1'; echo '9|mine'")
    command(commands, "scancel", f"echo $* >> '{ended}'")
    command(commands, "sbatch", "echo 8")
    assert platform.start(SessionRequest("me", "km-one", "pass")).version.id == "2"
    assert not ended.exists(), "each has its folder"
    shutil.rmtree(tmp_path / "slurm/runs/km-one/1")
    assert platform.start(SessionRequest("me", "km-one", "pass")).version.id == "3"
    assert ended.read_text().split() == ["--full", "7"]


def test_a_login_host_that_greets_commands_is_named_as_the_fault(commands: Path, tmp_path: Path) -> None:
    command(commands, "ssh", 'for last; do :; done; echo "Welcome, ann"; exec sh -c "$last"')
    platform = SlurmPlatform({"login": "there", "folder": str(tmp_path / "far")}, tmp_path)
    with pytest.raises(ConfigError, match=r"there prints words of its own .*: Welcome, ann") as refused:
        platform.whoami()
    assert "make `ssh there true` print nothing" in refused.value.next_step


def test_sessions_are_for_their_user_alone_and_the_folder_around_them_stays_as_it_is(
    commands: Path, tmp_path: Path
) -> None:
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(0o755)
    SlurmPlatform({"folder": str(shared)}, tmp_path).whoami()
    modes = [path.stat().st_mode & 0o777 for path in (shared, shared / "runs", shared / "inputs")]
    assert modes == [0o755, 0o700, 0o700]


def test_the_names_of_a_users_sessions_are_told_with_the_newest_first(commands: Path, tmp_path: Path) -> None:
    """By these a run is found that another one led in a session that both shared."""
    platform = SlurmPlatform({}, tmp_path)
    assert platform.mine("me") == []
    for name, at in (("km-b", 2), ("km-c", 1), ("km-a", 3)):
        platform.start(SessionRequest("me", name, "pass"))
        os.utime(tmp_path / "slurm/runs" / name, (at, at))
    assert platform.mine("me") == ["km-a", "km-b", "km-c"]


def test_a_python_below_the_home_directory_is_that_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (python := tmp_path / "my env/bin/python").parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    settings = SlurmSettings(python="~/my env/bin/python")
    assert read_python(Shell().run("bash", "-c", ask_for_python(settings, "python3")).out) == sys.version_info[:2]
    (session := tmp_path / "session").mkdir()
    (session / "job.sh").write_text(job_script(settings, "python3"))
    (session / "script.py").write_text("print('trains')")
    Shell().run("bash", str(session / "job.sh"), str(session))
    assert (session / "ended").read_text().split() == ["0"], (session / "log").read_text()


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "tcsh", "fish"])
def test_a_command_arrives_as_it_was_given_whatever_shell_its_user_has_there(commands: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine: apt-get install {shell}")
    command(commands, "ssh", f'for last; do :; done; exec {shell} -c "$last"')
    words = ["it's", 'a "b"', "$HOME `id`", "one\ntwo\n", "back\\slash \\'", "!! #~*", "é", ""]
    script = 'printf "%s|" "$@"; cat'
    assert (
        Shell(login="there").script(script, *words, stdin="what comes in\n").out == "|".join(words) + "|what comes in\n"
    )


def test_no_variable_of_a_users_shell_changes_what_slurm_answers(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    command(commands, "squeue", 'echo "7|${SQUEUE_STATES-every state}"')
    assert jobs.jobs_of(Shell(), "km-one") == [("7", "every state")]
