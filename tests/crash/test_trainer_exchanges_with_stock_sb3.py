"""What is exported, stock Stable-Baselines3 alone loads and trains on; what it saved can be taken in and goes on."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN as StockDQN
from stable_baselines3.common.callbacks import CheckpointCallback
from trainer_runs import DQN, PENDULUM, SCENARIO, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import (
    CheckpointCorrupt,
    CheckpointIncompatible,
    CheckpointNotFound,
    LineageMismatch,
    UnsafePickle,
)
from kaggle_manager.trainer.sb3 import sb3_exchange
from kaggle_manager.trainer.sb3.sb3_exchange import export_sb3, import_sb3

pytestmark = pytest.mark.slow

SAC: dict[str, Any] = {"buffer_size": 100, "batch_size": 8, "learning_starts": 10, "policy_kwargs": {"net_arch": [8]}}
PPO: dict[str, Any] = {"n_steps": 50, "batch_size": 25, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}

STOCK = """
import importlib.abc, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("kaggle_manager", "kernels", "validation_ch7"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Nothing())
import stable_baselines3, gymnasium
algorithm, env_id, step, *files = sys.argv[1:]
for model_zip in (file for file in files if file.endswith(".zip")):
    model = getattr(stable_baselines3, algorithm).load(model_zip, env=gymnasium.make(env_id), device="cpu")
    assert model.num_timesteps == int(step)
    if (rows := model_zip.replace(".zip", "_replay_buffer.pkl")) in files:
        model.load_replay_buffer(rows)
        assert model.replay_buffer.size() == min(int(step), model.replay_buffer.buffer_size)
    model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps == int(step) + 100
"""


def stock_trains_on(algorithm: str, env_id: str, step: int, files: list[Path], folder: Path) -> None:
    command = [sys.executable, "-I", "-c", STOCK, algorithm, env_id, str(step), *map(str, files)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("algorithm", "env_id", "changes"),
    [
        ("DQN", "CartPole-v1", {"total": 200}),
        ("SAC", "Pendulum-v1", {"algorithm": "SAC", "hyperparameters": SAC, "environment": PENDULUM, "total": 60}),
        ("PPO", "CartPole-v1", {"algorithm": "PPO", "hyperparameters": PPO, "total": 100}),
    ],
)
def test_stock_loads_an_export_and_trains_on(algorithm: str, env_id: str, changes: Any, tmp_path: Path) -> None:
    session(settings(tmp_path / "tree", save_every=20, **changes))
    tree = TrainingTree(tmp_path / "tree", SCENARIO)
    before = {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}
    files = export_sb3(tree.root, SCENARIO, None, tmp_path / "out", check=lambda _: None)
    assert {path: path.read_bytes() for path in tree.root.rglob("*") if path.is_file()} == before
    total = changes["total"]
    names = [f"{SCENARIO}_checkpoint_{total}_steps.zip", f"{SCENARIO}_checkpoint_{total}_steps_replay_buffer.pkl"]
    assert [path.name for path in files] == names[: 1 if algorithm == "PPO" else 2]
    final = [tree.final, tree.path("final", "replay_buffer")]
    stock_trains_on(algorithm, env_id, total, files + final[: len(files)], tmp_path)


def test_an_older_checkpoint_is_exported_with_the_rows_of_its_step(tmp_path: Path) -> None:
    session(settings(tmp_path / "tree", save_every=50, total=120))
    _, pickled = export_sb3(tmp_path / "tree", SCENARIO, 100, tmp_path, check=lambda _: None)
    buffer = pickle.loads(pickled.read_bytes())
    newest = pickle.loads((tmp_path / "tree" / f"{SCENARIO}_final_replay_buffer.pkl").read_bytes())
    assert (buffer.pos, newest.pos) == (100, 120)
    assert buffer.observations[:100].tobytes() == newest.observations[:100].tobytes()
    with pytest.raises(CheckpointNotFound, match=r"no checkpoint of step 70 .* 120, 100"):
        export_sb3(tmp_path / "tree", SCENARIO, 70, tmp_path, check=lambda _: None)


def test_damaged_rows_are_never_exported(tmp_path: Path) -> None:
    session(settings(tmp_path / "tree", save_every=50, total=100))
    tree = TrainingTree(tmp_path / "tree", SCENARIO)
    segment = min(tree.replay.iterdir())
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CheckpointNotFound, match="those that do: none"):
        export_sb3(tree.root, SCENARIO, 100, tmp_path / "exported", check=lambda _: None)
    assert not (tmp_path / "exported").exists()
    assert segment.read_bytes() == data, "an export only reads"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stock checkpoint of step 100, of a buffer of 80 rows, so that the ring has turned."""
    folder = tmp_path_factory.mktemp("stock")
    chosen = {**DQN, "learning_rate": 1e-2, "buffer_size": 80}
    model = StockDQN("MlpPolicy", "CartPole-v1", seed=1, device="cpu", **chosen)
    model.learn(120, callback=CheckpointCallback(100, str(folder), save_replay_buffer=True))
    return folder / "rl_model_100_steps.zip", folder / "rl_model_replay_buffer_100_steps.pkl"


@pytest.mark.parametrize("with_rows", [True, False])
def test_a_stock_pair_is_taken_in_and_goes_on_across_sessions(
    pair: tuple[Path, Path], with_rows: bool, tmp_path: Path
) -> None:
    model_zip, rows = pair
    chosen = settings(tmp_path / "tree", hyperparameters={**DQN, "buffer_size": 80})
    checkpoint = import_sb3(model_zip, rows if with_rows else None, chosen)
    assert checkpoint.step == 100
    [broken] = checkpoint.manifest.exact["broken"]
    assert broken["step"] == 100
    assert "random states" in broken["why"]
    assert ("replay rows" in broken["why"]) is not with_rows
    assert checkpoint.manifest.exact["exact"] == "none"
    # Taken in, it is as exact as any other: cut again and again, it ends as when it is not.
    [files] = [export_sb3(tmp_path / "tree", SCENARIO, None, tmp_path / "back", check=lambda _: None)]
    size = 80 if with_rows else 0
    assert pickle.loads(files[1].read_bytes()).size() == size
    if with_rows:
        theirs, ours = (pickle.loads(path.read_bytes()) for path in (rows, files[1]))
        assert theirs.observations.tobytes() == ours.observations.tobytes()
        assert (theirs.pos, theirs.full) == (ours.pos, ours.full)
    outcome = session(chosen, max_steps=60)
    assert (outcome.kind, outcome.resumed_from) == ("interrupted", 100)
    assert session(chosen).resumed_from == 160
    final = CheckpointStore(TrainingTree(tmp_path / "tree", SCENARIO)).final()
    assert final is not None
    assert final.step == 300
    newest = pickle.loads((tmp_path / "tree" / f"{SCENARIO}_final_replay_buffer.pkl").read_bytes())
    assert newest.size() == 80
    assert len(np.unique(newest.observations.reshape(80, -1), axis=0)) == 80, "no row was lost or written twice"


def test_what_does_not_fit_or_would_run_code_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model_zip, rows = pair
    chosen = settings(tmp_path / "tree", hyperparameters={**DQN, "buffer_size": 80})
    with pytest.raises(CheckpointIncompatible, match="does not fit"):
        import_sb3(model_zip, rows, settings(tmp_path / "tree", hyperparameters={**DQN, "buffer_size": 90}))
    wider = {**DQN, "policy_kwargs": {"net_arch": [16]}}
    with pytest.raises(CheckpointIncompatible, match="does not fit"):
        import_sb3(model_zip, None, settings(tmp_path / "tree", hyperparameters=wider))
    with pytest.raises(CheckpointCorrupt, match="not a model file"):
        import_sb3(rows, None, chosen)
    torn = tmp_path / "torn.pkl"
    torn.write_bytes(rows.read_bytes()[:-1000])
    with pytest.raises(CheckpointCorrupt, match="cannot be read as a replay buffer"):
        import_sb3(model_zip, torn, chosen)
    evil, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    evil.write_bytes(pickle.dumps(Evil(str(trace))))
    with pytest.raises(UnsafePickle, match="no part of a replay buffer"):
        import_sb3(model_zip, evil, chosen)
    assert not trace.exists()
    assert not any((tmp_path / "tree").rglob("*.manifest.json"))
    import_sb3(model_zip, rows, chosen)
    with pytest.raises(LineageMismatch, match="holds a training already"):
        import_sb3(model_zip, rows, chosen)


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_the_command_says_what_it_wrote_or_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session(settings(tmp_path / "tree", total=50))
    capsys.readouterr()
    call = ["export", "--trust", "--state", str(tmp_path), "--tree", str(tmp_path / "tree"), "--scenario", SCENARIO]
    assert sb3_exchange.main([*call, str(tmp_path / "out")]) == 0
    assert [Path(line).is_file() for line in capsys.readouterr().out.splitlines()] == [True, True]
    assert sb3_exchange.main([*call, "--step", "7", str(tmp_path / "out")]) == 9
    assert "Next:" in capsys.readouterr().err
    assert sb3_exchange.main(["import", str(tmp_path / "none.zip"), "--workdir", str(tmp_path)]) == 2
    assert "There is no file" in capsys.readouterr().err
