"""A target that is reached is believed only of this experiment, with everything that belongs to it still there."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import Bench

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.checkpoints.tree_lock import hold_tree, lock_of
from kaggle_manager.cli import main
from kaggle_manager.errors import Busy, CheckpointCorrupt, CheckpointIncompatible

HOLDER = """
import sys, time
from pathlib import Path
from kaggle_manager.checkpoints.tree_lock import hold_tree
with hold_tree(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
NET = "sections/small/section.toml", r"^net_arch = .*$"


def copy_named_by(error: CheckpointCorrupt) -> Path:
    words = shlex.split(error.next_step.splitlines()[0])
    return Path(words[words.index("--from") + 1])


def test_another_network_is_refused_also_when_the_target_is_reached_already(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.edit(*NET, "net_arch = [128, 128]")
    with pytest.raises(CheckpointIncompatible, match=r"Architecture: checkpoint=\[64, 64\], current=\[128, 128\]"):
        bench.run(timesteps=2)
    bench.edit(*NET, "net_arch = [64, 64]")
    assert bench.run(timesteps=2).state == "finished"


def test_a_deleted_tree_is_never_started_from_zero_in_silence(bench: Bench) -> None:
    bench.run(timesteps=2)
    shutil.rmtree(bench.tree.root)
    with pytest.raises(CheckpointCorrupt, match="was trained") as refusal:
        bench.run(timesteps=4)
    bench.manager().restore_copy("small", copy_named_by(refusal.value))
    assert bench.run(timesteps=4).step == 4
    shutil.rmtree(bench.tree.root)
    assert bench.run(timesteps=2, fresh=True).step == 2


def test_a_lost_best_model_is_no_success_and_comes_back_by_the_command_it_names(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.tree.best_model.write_bytes(b"?")
    with pytest.raises(CheckpointCorrupt, match="best model") as refusal:
        bench.run(timesteps=2)
    bench.manager().restore_copy("small", copy_named_by(refusal.value))
    assert bench.run(timesteps=2).state == "finished"
    assert CheckpointStore(bench.tree).best() is not None


def test_a_manager_and_a_trainer_never_work_in_one_tree_at_once(bench: Bench) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(bench.tree.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
    with pytest.raises(Busy, match="Another command is at work") as refusal:
        bench.run(timesteps=2)
    assert refusal.value.exit_code == 10
    assert f"process {holder.pid} of user" in refusal.value.message
    assert str(lock_of(bench.tree.root)) in refusal.value.message
    holder.kill()
    holder.wait()
    with hold_tree(bench.tree.root):
        pass
    assert bench.run(timesteps=2).step == 2


def test_an_error_is_json_too_when_json_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "nowhere", "--json", "--workdir", str(tmp_path)])
    assert end.value.code == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["state"], report["exit_code"], report["human_action_required"]) == ("error", 2, True)
    assert "section_7_6_rl_performance" in report["next"]
