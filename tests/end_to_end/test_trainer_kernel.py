"""The kernel's entry on the real section and the real simulator: what it leaves is true, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, find_latest_checkpoint, pack_tree, read_metadata
from kaggle_manager.protocol.events import ResultEvent, parse_event, session_tag
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.project import get_section
from kaggle_manager.trainer import main
from kaggle_manager.trainer.sb3 import session as sb3_session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HANGS_AFTER_S = 120
SECTION, SCENARIO = "section_7_6_rl_performance", "traffic_light_control"


@pytest.fixture(autouse=True)
def kernel_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path / "working"))
    monkeypatch.setenv("KM_INPUT_DIR", str(tmp_path / "input"))
    monkeypatch.setenv("KM_EMULATED_ACCELERATOR", "Tesla T4")


def order(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "schema": LaunchOrder.SCHEMA,
        "run_id": "run",
        "generation": 1,
        "section": SECTION,
        "section_folder": f"validation_ch7/{SECTION}",
        "scenario": SCENARIO,
        "target": 2,
        "quick": True,
        "fresh": False,
        "parent": None,
        "deadline_s": 600.0,
        "max_steps": None,
        "save_every": None,
        "accelerator": "NvidiaTeslaT4",
        "bundle_sha256": "b" * 64,
        "identity": identity_of(get_section(ROOT, SECTION), SCENARIO, ROOT, quick=True),
        "packages": [],
    }
    return {**values, **changes}


def left(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


def parent_of(working: Path) -> dict[str, Any]:
    head = find_latest_checkpoint(working / "training_tree", SCENARIO)
    assert head is not None
    return {"manifest_sha256": head.manifest.sha256, "min_step": head.step, "dataset": "me/km-tree", "vouched_by": "me"}


def test_two_quick_sessions_really_train_save_evaluate_restore_and_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "working"
    assert main.run(order(max_steps=1, trainer_started=time.monotonic() - 100)) == 0
    result = left(first, "session_result.json")
    assert (result["outcome"], result["step"]) == ("interrupted", 1)
    assert result["timings"]["setup"] > 100, "what the imports took is the session's time"
    assert left(first, "session_start.json")["from_zero"] == "session 1 has no parent"
    pack_tree(TrainingTree(first / "training_tree", SCENARIO), tmp_path / "input/datasets/me/km-tree")

    second = tmp_path / "second"
    monkeypatch.setenv("KM_WORKING_DIR", str(second))
    parent = parent_of(first)
    image = f"gcr.io/kaggle-images/python@sha256:{'a' * 64}"
    assert main.run(order(generation=2, parent=parent, image=image)) == 0
    start, result = left(second, "session_start.json"), left(second, "session_result.json")
    assert start["resumed"] == {"step": 1, "manifest_sha256": parent["manifest_sha256"]}
    assert start["device"] == "cpu", "the accelerator is only a name here, and the kernel is told the truth"
    versions = start["versions"]
    assert (versions["python"], versions["torch"]) == (platform.python_version(), str(torch.__version__))
    assert (versions["numpy"], versions["cuda"]) == (np.__version__, torch.version.cuda)
    assert (result["outcome"], result["step"], result["resumed_from_step"]) == ("completed", 2, 1)
    assert result["counts"]["updates"] >= 1
    assert result["counts"]["evaluations"] >= 1

    outputs = {p.relative_to(second).as_posix(): p for p in second.rglob("*") if p.is_file()}
    outputs.pop("session_result.json")
    assert {entry["name"]: entry["sha256"] for entry in (*result["files"], *result["optional"])} == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in outputs.items()
    }
    assert result["others"]["count"] == 0, "and nothing of the trainer's is taken for the user's"
    store = CheckpointStore(TrainingTree(second / "training_tree", SCENARIO))
    newest, older = store.valid_checkpoints()
    assert (newest.step, older.step) == (2, 1)
    assert (newest.manifest.exact["image"], older.manifest.exact["image"]) == (image, ""), "each by the one it ran in"
    metadata = read_metadata(store.tree.metadata)
    assert metadata is not None
    assert (metadata.timesteps_done, metadata.generation) == (2, 2)
    assert metadata.exact["environment"] == "action-replay"
    assert metadata.policy_architecture == [64, 64]
    said = capfd.readouterr().out
    assert "Resumed from step 1 of 2; 1 timestep left." in said
    last = parse_event(said.rstrip().splitlines()[-1], session_tag("run", 2))
    assert isinstance(last, ResultEvent)
    assert (last.outcome, last.step, last.output_files) == ("completed", 2, len(outputs))


def test_stock_sb3_opens_every_model_and_the_final_replay_buffer(tmp_path: Path) -> None:
    assert main.run(order()) == 0
    tree = TrainingTree(tmp_path / "working/training_tree", SCENARIO)
    for path in (tree.final, tree.best_model, tree.checkpoints / tree.name("latest", "model", 2)):
        model = DQN.load(path)
        assert model.predict(np.zeros(model.observation_space.shape, dtype=np.float32))[0] in model.action_space
    final = DQN.load(tree.final)
    final.load_replay_buffer(tree.path("final", "replay_buffer"))
    assert final.replay_buffer is not None
    assert (final.num_timesteps, final.replay_buffer.pos) == (2, 2), "no transition may be missing"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_step": 7}, "step: asked at least 7, mounted 1"),
        ({"manifest_sha256": "c" * 64}, "manifest: asked cccccccccccc"),
    ],
)
def test_a_session_that_finds_another_tree_leaves_before_it_trains(
    change: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path / "working"
    assert main.run(order(max_steps=1)) == 0
    pack_tree(TrainingTree(working / "training_tree", SCENARIO), tmp_path / "input/km-tree")
    parent = {**parent_of(working), **change}
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path / "second"))
    monkeypatch.setattr(sb3_session, "train", lambda *_: pytest.fail("it trains"))
    assert main.run(order(generation=2, parent=parent)) == 3
    result = left(tmp_path / "second", "session_result.json")
    assert result["outcome"] == "refused"
    assert said in result["reason"]
    assert not (tmp_path / "second/session_start.json").exists()


def test_a_crash_is_a_crash_with_the_last_line_of_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sb3_session, "train", lambda *_, **__: 1 / 0)
    assert main.run(order()) == 1
    result = left(tmp_path / "working", "session_result.json")
    assert (result["outcome"], result["exit_code"]) == ("crashed", 1)
    assert result["error"]["last_line"] == "ZeroDivisionError: division by zero"
    assert "Traceback (most recent call last):" in capfd.readouterr().err


def test_another_experiment_is_refused_with_its_own_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working = tmp_path / "working"
    assert main.run(order(max_steps=1)) == 0
    pack_tree(TrainingTree(working / "training_tree", SCENARIO), tmp_path / "input/km-tree")
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path / "second"))
    identity = {**order()["identity"], "reward_fingerprint": "another"}
    assert main.run(order(generation=2, parent=parent_of(working), identity=identity)) == 7
    assert "Sources of the reward: changed" in left(tmp_path / "second", "session_result.json")["reason"]


def test_an_accelerator_that_is_not_there_is_refused_not_quietly_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KM_EMULATED_ACCELERATOR")
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main.run(order()) == 3
    assert "has no GPU" in left(tmp_path / "working", "session_result.json")["reason"]


def train_dqn(workdir: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kaggle_manager.trainer.sb3.train_dqn", "--workdir", str(workdir), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_on_a_laptop_it_stops_when_asked_and_in_time_and_goes_on_by_itself(tmp_path: Path) -> None:
    tree = tmp_path / "validation_ch7" / SECTION / "data/models"
    began = time.monotonic()
    asked = train_dqn(tmp_path, "--timesteps", "100000", "--save-every", "20")
    while not any(tree.glob("checkpoints/*.manifest.json")) and asked.poll() is None:
        time.sleep(0.02)
    to_first_save_s = time.monotonic() - began
    asked.send_signal(signal.SIGTERM)
    said = asked.communicate(timeout=HANGS_AFTER_S)[0]
    assert asked.returncode == 0
    assert "Interrupted, resumable: asked to stop by SIGTERM." in said.splitlines()[-1]
    stopped = find_latest_checkpoint(tree, SCENARIO)
    assert stopped is not None
    assert stopped.step > 0

    limit_s = max(15, int(3 * to_first_save_s))  # on a machine that may be slow
    limited = train_dqn(tmp_path, "--timesteps", "100000", "--save-every", "20", "--session-limit", f"{limit_s}s")
    said = limited.communicate(timeout=limit_s + HANGS_AFTER_S)[0]
    assert limited.returncode == 0
    assert f"Resumed from step {stopped.step:,} of 100,000; {100000 - stopped.step:,} timesteps left." in said
    assert "the session's time is used up" in said
    went_on = find_latest_checkpoint(tree, SCENARIO)
    assert went_on is not None
    assert went_on.step > stopped.step
    assert went_on.manifest.lineage.generation == stopped.manifest.lineage.generation + 1
