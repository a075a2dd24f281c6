"""Two sections, and two seeds of one, work side by side; two commands on one run do not."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_project import SECTION, make_project
from small_shell import IS_LIVE, PREFLIGHT, Shell

from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.runs.journal import Journal

pytestmark = pytest.mark.slow
OTHER = "other"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Two sections that train the same."""
    project = make_project(tmp_path / "project")
    section = project / "sections" / SECTION
    (section / "preflight.py").write_text(PREFLIGHT)
    (other := section.with_name(OTHER)).mkdir()
    for file in section.iterdir():
        (other / file.name).write_text(file.read_text().replace(f'name = "{SECTION}"', f'name = "{OTHER}"'))
    yield Shell(project, tmp_path / "work")
    stop(tmp_path / "work/local_kaggle")


def test_runs_go_on_side_by_side_with_one_command_each_and_the_slots_of_one_account(shell: Shell) -> None:
    shell.limits()
    shell.does({1: "hang"})
    first = shell.popen("run", SECTION, "--timesteps", "2")
    assert first.stdout is not None
    while "[STEP3]" not in (line := first.stdout.readline()):
        assert line, first.communicate()

    refused = json.loads(shell.ends_with(10, "tick", SECTION, "--json").rpartition("}")[0] + "}")
    for part in (f"process {first.pid} of user", "run small --timesteps 2", ".models.lock"):
        assert part in refused["why"]
    assert IS_LIVE.search(shell.ends_with(8, "tick", OTHER, "--timesteps", "2", "--json")), "beside it"
    third = shell.ends_with(8, "tick", SECTION, "--seed", "3", "--timesteps", "2", "--json")
    assert '"state": "waiting"' in third, "both slots are taken, whoever has them"
    assert "more than 2" in third or "at once" in third
    for look in (["status"], ["checkpoints", "ls", SECTION]):
        shell.ends_with(0, *look, "--json")  # who only looks waits for nobody

    first.send_signal(signal.SIGINT)
    assert first.communicate(timeout=60)[0] is not None
    shell.does({})
    for session in (shell.work / "local_kaggle/sessions").iterdir():
        (session / "cancel").touch()
    both = [shell.popen("run", section, "--timesteps", "2") for section in (SECTION, OTHER)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    with closing(Journal.to_read(shell.work / "journal.sqlite")) as journal:
        versions = {
            (run.section, run.settings.get("seed")): [session.version for session in journal.sessions(run.run_id)]
            for run in journal.runs()
        }
    assert versions == {(SECTION, None): ["1", "2"], (OTHER, None): ["1", "2"], (SECTION, 3): []}
