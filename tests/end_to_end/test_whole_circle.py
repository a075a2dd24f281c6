"""The main job on real parts: packaged, pushed, run, watched, downloaded, restored, relaunched, on the local Kaggle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, find_latest_checkpoint, read_metadata
from kaggle_manager.local_kaggle.launcher import stop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/run_kaggle_validation_section_7_6.py"
SCENARIO = "traffic_light_control"


@pytest.fixture
def workdir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path / "local_kaggle")


def command(workdir: Path, *options: str) -> list[str]:
    common = ["--platform", "local", "--workdir", str(workdir), "--json", "--no-report"]  # it has tests of its own
    return [sys.executable, str(SCRIPT), *common, *options]


def run(workdir: Path, *options: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(command(workdir, *options), capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def tree_of(workdir: Path, name: str) -> TrainingTree:
    return TrainingTree(workdir / "validation_ch7/section_7_6_rl_performance/data" / name, SCENARIO)


def test_a_quick_run_shows_the_whole_circle_over_two_sessions(workdir: Path) -> None:
    report, log = run(workdir, "--quick")
    assert (report["state"], report["step"], report["human_action_required"]) == ("finished", 2, False)
    assert [session["outcome"] for session in report["sessions"]] == ["interrupted", "completed"]
    assert all(report["counts"][what] >= 1 for what in ("updates", "evaluations", "restores"))
    for mark in ("[STEP1]", "[STEP2]", "[STEP3]", "[STEP4]", "[CHECKPOINT]", "relaunch: 1 of 2 timesteps left"):
        assert mark in log
    assert "Resumed from step 1 of 2; 1 timestep left." in log

    store = CheckpointStore(tree_of(workdir, "models_quick"))
    assert [checkpoint.step for checkpoint in store.valid_checkpoints()] == [2, 1]
    best, final = store.best(), store.final()
    assert best is not None
    assert final is not None
    assert final.step == 2
    assert {c.manifest.bundle_sha256 for c in (*store.valid_checkpoints(), best, final)} == {report["bundle_sha256"]}
    assert not tree_of(workdir, "models").root.exists(), "a quick run must not touch the production tree"
    metadata = read_metadata(store.tree.metadata)
    assert metadata is not None
    found = find_latest_checkpoint(store.tree.root, SCENARIO)
    assert found is not None
    assert found.manifest.lineage.parent_sha256 == store.valid_checkpoints()[1].manifest.sha256


def test_a_killed_manager_finds_its_session_again_and_pushes_nothing_twice(workdir: Path) -> None:
    manager = subprocess.Popen(
        command(workdir, "--timesteps", "400"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert manager.stderr is not None
    with manager.stderr:
        for line in manager.stderr:
            if "[STEP3]" in line:
                break
        manager.kill()
    manager.wait()
    report, log = run(workdir, "--timesteps", "400")
    assert "[STEP2]" not in log, "the session that was running had to be adopted, not pushed again"
    assert (report["step"], len(report["sessions"])) == (400, 1)
    again, log = run(workdir, "--timesteps", "400")
    assert again["run_id"] == report["run_id"]
    assert "[STEP1]" not in log, "a target that is reached needs no session"
    longer, log = run(workdir, "--timesteps", "500")
    assert (longer["step"], longer["run_id"]) == (500, report["run_id"])
    assert "Resumed from step 400 of 500; 100 timesteps left." in log


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_the_session_alone_and_says_so(workdir: Path) -> None:
    manager = subprocess.Popen(
        command(workdir, "--timesteps", "300"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert manager.stderr is not None
    with manager.stderr:
        for line in manager.stderr:
            if " is RUNNING " in line:  # into the watching itself
                break
        manager.send_signal(signal.SIGINT)
        rest = manager.stderr.read()
    assert manager.wait(timeout=120) == 130
    assert "continues on its platform" in rest
    report, log = run(workdir, "--timesteps", "300")
    assert "[STEP2]" not in log
    assert report["step"] == 300
