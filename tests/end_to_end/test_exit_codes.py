"""Every documented exit code, from the real command, for a real cause; with each the three answers of an error."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from small_project import SCENARIO, SECTION, Bench, make_project
from small_shell import IS_LIVE, PREFLIGHT, Shell

from kaggle_manager.errors import Unavailable
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.platforms.kaggle.client import KaggleClient

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A project, and a copy of this program that its command runs."""
    project = make_project(tmp_path / "project")
    (project / "sections" / SECTION / "preflight.py").write_text(PREFLIGHT)
    yield Shell(project, tmp_path / "work")
    stop(tmp_path / "work/local_kaggle")


def test_what_cannot_even_begin(shell: Shell) -> None:
    toml = shell.section_folder / "section.toml"
    good = toml.read_text()
    toml.write_text(good.replace("[kernel]", "[kernel"))
    assert "is not valid TOML" in shell.ends_with(2, "run", SECTION)
    toml.write_text(good)
    assert "No such option" in shell.ends_with(2, "run", SECTION, "--no-such-option")
    assert "needs credentials" in shell.ends_with(4, "tick", SECTION, "--platform", "kaggle", "--json")
    assert "has no checkpoint yet" in shell.ends_with(9, "checkpoints", "show", SECTION, "--json")
    (shell.project / "a_file").write_text("not a folder")
    assert "is not a folder" in shell.ends_with(1, "tick", SECTION, "--workdir", "a_file", "--json")


def test_what_the_platform_does_not_allow_now_waits_in_the_exit_code_of_a_tick(shell: Shell) -> None:
    shell.limits(gpu_week_s=0)
    assert "quota" in shell.ends_with(5, "tick", SECTION, "--json")
    assert json.loads(shell.ends_with(0, "status", "--json"))["state"] == "waiting"
    shell.limits()
    assert IS_LIVE.search(shell.ends_with(8, "tick", SECTION, "--timesteps", "1", "--json")), "it came back"


def test_a_scheduled_tick_whose_disk_is_not_mounted_begins_no_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sleep").symlink_to("/bin/true")
    environ = {**shell.environment, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}

    def scheduled() -> subprocess.CompletedProcess[str]:
        """The command of the crontab line, as cron runs it."""
        command = line.split(" ", 5)[5].replace("\\%", "%")
        return subprocess.run(["/bin/sh", "-c", command], env=environ, capture_output=True, text=True, check=False)

    shell.limits()
    which = (SECTION, "--timesteps", "2", "--workdir", str(shell.work))
    line = json.loads(shell.ends_with(0, "schedule", which[0], "cron", *which[1:], "--json"))["crontab_line"]
    assert "--existing" not in line, "there is no run yet, which its first tick begins"
    shell.does({1: "hang"})
    shell.ends_with(8, "tick", *which)
    line = json.loads(shell.ends_with(0, "schedule", which[0], "cron", *which[1:], "--json"))["crontab_line"]
    assert scheduled().returncode == 8, "the run that is there goes on"
    stop(shell.work / "local_kaggle")
    shell.work.rename(tmp_path / "away")
    refused = shell.ends_with(9, "tick", *which, "--existing", "--json")
    assert "is not there" in refused
    assert "is mounted" in refused
    assert scheduled().returncode not in (0, 8)
    assert not shell.work.exists(), "a folder on a bare mount point would be taken for the state of a run"
    shell.work.mkdir()  # the mount point itself
    shell.ends_with(9, "tick", *which, "--seeds", "2", "--existing")
    assert scheduled().returncode == 9
    assert [path.suffix for path in shell.work.iterdir()] == [".log"], "nothing is made but what cron writes down"


def test_a_platform_that_is_not_there_is_to_be_asked_later(bench: Bench) -> None:
    """By the manager: the command would be patient for some twenty seconds before it says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        bench.server = replace(bench.server, url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        bench.make_client = partial(KaggleClient, sleep=lambda seconds: None)
        with pytest.raises(Unavailable) as caught:
            bench.manager().tick(SECTION)
    assert caught.value.exit_code == 6
    assert caught.value.next_step


def test_a_run_that_is_not_finished_interrupted_finished_incompatible_and_damaged(shell: Shell) -> None:
    shell.limits()
    shell.does({1: "hang"})
    assert IS_LIVE.search(shell.ends_with(8, "tick", SECTION, "--timesteps", "2", "--json"))
    interrupted = shell.popen("run", SECTION, "--timesteps", "2")
    assert interrupted.stdout is not None
    seen = ""
    while "KM_PROGRESS" not in seen and "[STEP3]" not in seen:
        line = interrupted.stdout.readline()
        assert line, interrupted.communicate()
        seen += line
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130, out + err
    assert "Traceback" not in err
    for session in (shell.work / "local_kaggle/sessions").iterdir():
        (session / "cancel").touch()
    shell.ends_with(0, "run", SECTION, "--timesteps", "2")

    toml = shell.section_folder / "section.toml"
    good = toml.read_text()
    toml.write_text(good.replace("[64, 64]", "[128, 128]"))
    shown = shell.ends_with(7, "run", SECTION)
    assert "Architecture: checkpoint=[64, 64], current=[128, 128]" in shown
    toml.write_text(good)

    for model in (shell.work / "sections" / SECTION / "data/models/checkpoints").glob("*.zip"):
        model.write_bytes(b"")
    assert SCENARIO in shell.ends_with(3, "checkpoints", "verify", SECTION, "--json")
    shown = shell.ends_with(3, "run", SECTION)
    words = shlex.split(shown.split("Next: ")[1].splitlines()[0])
    assert words[0] == "km"
    assert "resumes from step 2" in shell.ends_with(0, *words[1:])
