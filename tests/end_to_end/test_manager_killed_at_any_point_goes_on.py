"""`kill -9` of the manager at each point of its cycle, then the same command: one push a generation, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_manager import LINES
from small_project import Bench, make_project

from kaggle_manager import pace
from kaggle_manager.errors import Interrupted
from kaggle_manager.journal import Journal
from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.local_kaggle.launcher import ServerInfo

POINTS = [
    *LINES,
    "the push is answered",
    "half of the files are here",
    "the old tree is aside and the new one not in place",
    "the restore is done and not written",
]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")


@pytest.fixture(scope="module")
def long_run(kaggle_here: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("killed")
    bench = Bench(make_project(folder / "project"), folder / "work", kaggle_here)
    with pytest.raises(Interrupted):
        bench.run(timesteps=1000, interrupt_at="relaunch")
    return bench


@pytest.mark.parametrize("point", POINTS)
def test_killed_when(point: str, long_run: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_POLL_S", 0.1)
    bench, (head, _) = long_run, long_run.steps()
    script = Path(__file__).with_name("killed_manager.py")
    arguments = [bench.project, bench.workdir, bench.server.root, point]
    killed = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    with pytest.raises(Interrupted):
        bench.run(timesteps=1000, interrupt_at="relaunch")
    assert bench.steps() == [head + 2, head + 1]

    journal = Journal(bench.workdir / "journal.sqlite")
    (row,) = journal.runs()
    sessions = journal.sessions(row.run_id)
    journal.close()
    assert [session.generation for session in sessions] == list(range(1, len(sessions) + 1))
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        newest = client.newest_kernel(row.owner, row.slug)
    assert newest is not None
    assert newest[0].version == len(sessions), "exactly one push for each generation"
    assert {session.outcome for session in sessions} == {"interrupted"}, "every session's work was kept"
