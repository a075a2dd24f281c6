"""A training whose replay buffer is 9 GB ends, with its checkpoints, its final model and an export of its buffer.

    python scripts/benchmarks/large_buffer.py [--rows 160000] [--folder DIR]

Images of 84x84x4 bytes, as many timesteps as the buffer has rows. Prints the highest memory of the trainer and of the
export, and the time each took. It takes some minutes, 12 GB of memory and 30 GB of disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import sizes
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.resume_point import find_resume_point
from kaggle_manager.trainer.sb3.sb3_exchange import export_sb3
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

SCENARIO = "images"


class Film(gym.Env[Any, Any]):
    """A stack of the four newest frames; each frame is noise that no compression makes small."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._stack = np.zeros((84, 84, 4), np.uint8)
        return self._stack, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        frame = np.frombuffer(self.np_random.bytes(84 * 84), np.uint8).reshape(84, 84, 1)
        self._stack = np.concatenate([self._stack[..., 1:], frame], axis=-1)
        return self._stack, 1.0, False, self._steps == 1000, {}


def train_it(tree: Path, rows: int) -> str:
    config = TrainingConfig(
        scenario=SCENARIO,
        algorithm="DQN",
        policy="CnnPolicy",
        hyperparameters={
            "buffer_size": rows,
            "learning_starts": 1_000,
            "train_freq": 2_000,
            "exploration_final_eps": 1.0,
            "policy_kwargs": {"net_arch": [32]},
        },
        environments=Environments(Film),
        total=rows,
        tree=tree,
        lineage=Lineage("large", 1, None, 0),
        seed=1,
        save_every=20_000,
        evaluate_every=rows,
        evaluation_episodes=1,
    )
    outcome = train(config, find_resume_point(TrainingTree(tree, SCENARIO), fresh=False, warn=warn), SessionClock())
    return f"{outcome.kind} at step {outcome.step}{outcome.reason and f' ({outcome.reason})'}"


def export_it(tree: Path, folder: Path) -> str:
    files = export_sb3(tree, SCENARIO, None, folder, check=lambda _: None)
    return ", ".join(f"{path.name} {sizes.gigabytes(path.stat().st_size)}" for path in files)


def in_its_own_process(name: str, work: Callable[..., str], *arguments: Any) -> None:
    """Call `work`, and print what it says and what it took."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        said, peak, seconds = pool.apply(_measured, (work, *arguments))
    print(f"{name}: {said}\n  peak {peak / 1e9:.2f} GB, {seconds:.0f} s", flush=True)


def _measured(work: Callable[..., str], *arguments: Any) -> tuple[str, int, float]:
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it has a child
    begun = time.monotonic()
    said = work(*arguments)
    return said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=160_000)
    parser.add_argument("--folder", type=Path, help="where; default: a folder for temporary files")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="km_large_", dir=options.folder))
    try:
        tree = folder / "models"
        in_its_own_process("training", train_it, tree, options.rows)
        store = CheckpointStore(TrainingTree(tree, SCENARIO))
        final = store.final()
        print(f"checkpoints of steps {[found.step for found in store.valid_checkpoints()]}")
        print(f"final model: {[file.name for file in final.manifest.files] if final else None}")
        print(f"the tree has {sizes.gigabytes(sizes.used_by(tree))}", flush=True)
        in_its_own_process("export", export_it, tree, folder / "exported")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
