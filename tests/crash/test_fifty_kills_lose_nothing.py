"""SIGKILL of a process that is saving, at random moments: two valid latest checkpoints every time, nothing lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import crash_workload
import pytest
from crash_workload import SCENARIO, mixed

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree

pytestmark = pytest.mark.slow

KILLS = 50
CHILD = Path(crash_workload.__file__).with_name("saving_child.py")


def saved_until_killed(root: Path, saves: int, part: float) -> list[tuple[str, int]]:
    """Let a process save some times, kill it within the next save, and return all its promises.

    Everything is counted from its first save, so it does not matter how long a busy machine takes to start it.

    Args:
        root: the tree.
        saves: promises to wait for after the first.
        part: how far into the following save, as a part of the time the ones before took.
    """
    with subprocess.Popen([sys.executable, str(CHILD), str(root)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        resumed = child.stdout.readline()
        lines = [child.stdout.readline()]
        started = time.monotonic()
        lines += [child.stdout.readline() for _ in range(saves)]
        time.sleep(part * (time.monotonic() - started) / saves)
        child.kill()
        lines += child.stdout.readlines()
    assert resumed.startswith("resumed"), resumed
    assert lines[0].startswith("latest"), lines
    return [(name, int(step)) for name, step in (line.split() for line in lines if line.endswith("\n"))]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    moments = random.Random(76)
    root = tmp_path / "models"
    newest, best, saves = 0, 0, 0
    for kill in range(KILLS):
        promises = saved_until_killed(root, moments.randint(1, 4), moments.random())
        steps = [step for name, step in promises if name == "latest"]
        saves += len(steps)
        newest = steps[-1]
        best = max([best, *(step for name, step in promises if name == "best")])
        store = CheckpointStore(TrainingTree(root, SCENARIO), warn=pytest.fail)
        valid = store.valid_checkpoints()
        assert len(valid) >= 2, f"kill {kill} of {saves} saves"
        assert valid[0].step >= newest, f"kill {kill}"
        assert [problem for checkpoint in valid for problem in mixed(checkpoint)] == [], f"kill {kill}"
        found = store.best()
        assert best == 0 or (found is not None and found.manifest.score is not None and found.manifest.score >= best)
