"""A training script driven by the contract alone: sessions with the KM_SESSION_* variables, killed at random moments.

Each session is a process of its own, forked from one that has imported the framework already (`warm_sessions.py`):
importing it takes longer than these trainings.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TO_COPY = ROOT / "kaggle_manager/trainer/script"
EXAMPLES = ROOT / "docs/scripts"
# What each example is made with.
FRAMEWORKS = {
    "pytorch": ["torch"],
    "cleanrl": ["torch", "gymnasium"],
    "lightning": ["lightning.pytorch"],
    "pytorch_lightning": ["pytorch_lightning"],
    "transformers": ["transformers", "accelerate"],
}
# Steps of a shortened training of each, after how many it saves, and how many an epoch (of CleanRL: an update) has.
SIZES = {
    "pytorch": (120, 8, 16),
    "cleanrl": (256 * 12, 256, 256),
    "lightning": (60, 8, 16),
    "pytorch_lightning": (60, 4, 8),
    "transformers": (60, 8, 16),
}
# Lightning under its older name, with other means: gradients of two batches, and a schedule that looks at a metric.
OTHERWISE = {
    "from lightning.pytorch import": "from pytorch_lightning import",
    "return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)]": "schedule = "
    "torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, 'max', patience=0)\n"
    "        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule, 'monitor': 'accuracy'}}",
    "max_steps=session.target,": "max_steps=session.target, accumulate_grad_batches=2,",
}


class Sessions:
    """Runs a script in one session after another, as the manager does: what was committed is all that is carried on."""

    def __init__(self, script: Path, folder: Path, imports: Sequence[str] = ()) -> None:
        self.folder = folder
        folder.mkdir()
        self.script = folder / "train.py"
        for file in (script, *TO_COPY.glob("resumable*.py")):
            shutil.copy(file, folder / (self.script.name if file == script else file.name))
        variables = {name: value for name, value in os.environ.items() if not name.startswith("KM_")}
        variables |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._warm = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_sessions.py")), json.dumps(list(imports))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
            cwd=folder,
        )

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.close()
        self._warm.wait(60)
        self._warm.stdout.close()

    def chain(self, name: str, strikes: Sequence[Strike] = (), **variables: object) -> Chain:
        """Sessions until one is not struck, each continuing what the one before committed."""
        chain = Chain(self.folder / name)
        chain.folder.mkdir()
        for number, strike in enumerate([*strikes, None]):
            work = chain.folder / f"session{number + 1}"
            saves = work / "saves"
            saves.mkdir(parents=True)
            given = {"SAVES": saves, "STEP": chain.step, **variables}
            if chain.newest:
                given["RESUME"] = chain.newest
            chain.codes.append(self.run(work, {f"KM_SESSION_{key}": str(each) for key, each in given.items()}, strike))
            chain.take(saves)
            chain.steps.append(chain.step)
        return chain

    def run(self, work: Path, variables: dict[str, str], strike: Strike | None = None) -> int:
        """One process of the script in the folder `work`; its exit code, minus the signal that ended it."""
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps([str(self.script), str(work), variables, strike]) + "\n")
        self._warm.stdin.flush()
        return int(self._warm.stdout.readline())


def saving_often(framework: str, folder: Path) -> Path:
    """A copy of an example that saves every few steps."""
    text = (EXAMPLES / framework.removeprefix("pytorch_") / "train.py").read_text(encoding="utf-8")
    text = text.replace("Session(target", f"Session(save_every={SIZES[framework][1]}, target")
    if framework == "pytorch_lightning":
        for old, new in OTHERWISE.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
    script = folder / "saving_often.py"
    script.write_text(text, encoding="utf-8")
    return script


class Strike(NamedTuple):
    """A signal that is sent once the script has told of a step, a moment later."""

    step: int
    number: int
    later_s: float = 0.0


def strikes_at_random(target: int, draw: random.Random) -> list[Strike]:
    """A session that is asked to stop and one that is killed, in either order, each somewhere in its own third."""
    numbers = draw.sample([signal.SIGTERM, signal.SIGKILL], 2)
    third = target // 3
    return [
        Strike(third * place + draw.randrange(1, third), number, draw.random() * 0.02)
        for place, number in enumerate(numbers)
    ]


@dataclass
class Chain:
    """What came of a chain of sessions."""

    folder: Path
    codes: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    newest: Path | None = None
    curve: list[tuple[int, str, float]] = field(default_factory=list)

    @property
    def step(self) -> int:
        return int(self.newest.name) if self.newest else 0

    def take(self, saves: Path) -> None:
        """Keep the newest checkpoint of a session, and the points up to it; the rest is lost."""
        steps = sorted(int(each.name) for each in saves.iterdir() if each.name.isdecimal())
        if steps:
            self.newest = saves / str(steps[-1])
        self.curve = [point for point in [*self.curve, *points(saves / "metrics.jsonl")] if point[0] <= self.step]

    def difference(self, other: Chain) -> list[str]:
        """Where model, optimizer, generators, places or curves of two ends are not the same bits."""
        assert self.newest
        assert other.newest
        mine, its = dict(values(self.newest)), dict(values(other.newest))
        found = sorted(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
        if sorted(self.curve) != sorted(other.curve):
            found.append("metrics.jsonl")
        return found


def points(metrics: Path) -> list[tuple[int, str, float]]:
    if not metrics.exists():
        return []
    lines = metrics.read_bytes().decode().split("\n")[:-1]  # what is half written has no end
    return [(each["step"], each["name"], each["value"]) for each in map(json.loads, lines)]


def values(checkpoint: Path) -> list[tuple[str, str]]:
    """Every value in the files of a checkpoint, by its place; times of day and speeds are left out."""
    import torch

    found: list[tuple[str, str]] = []
    for path in sorted(each for each in checkpoint.rglob("*") if each.is_file()):
        name = path.relative_to(checkpoint).as_posix()
        if path.suffix in (".pt", ".pth", ".ckpt"):
            found += _flat(torch.load(path, weights_only=False), name)
        elif path.suffix == ".json":
            found += _flat(json.loads(path.read_text()), name)
        elif path.suffix == ".pkl":
            found += _flat(_games(path), name)
        else:
            found.append((name, path.read_bytes().hex()))
    return found


def _flat(value: Any, place: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        left_out = ("_runtime", "_per_second")
        return [
            one
            for key, each in value.items()
            if not str(key).endswith(left_out)
            for one in _flat(each, f"{place}/{key}")
        ]
    if isinstance(value, (list, tuple)) and not all(isinstance(each, int) for each in value):
        return [one for number, each in enumerate(value) for one in _flat(each, f"{place}/{number}")]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return [(place, f"{value.dtype} {value.shape} {value.tobytes().hex()}")]
    return [(place, repr(value))]


def _games(path: Path) -> dict[str, Any]:
    """What a pickled vector environment of Gymnasium is made of, without when its episodes began."""
    import pickle

    games = pickle.loads(path.read_bytes())
    found = {name: each for name, each in games.items() if isinstance(each, np.ndarray)}
    for number, env in enumerate(games["envs"]):
        for wrapper in _wrappers(env):
            for name, each in vars(wrapper).items():
                if isinstance(each, (int, float, np.ndarray)) and name != "episode_start_time":
                    found[f"{number}/{type(wrapper).__name__}/{name}"] = each
        found[f"{number}/generator"] = env.unwrapped.np_random.bit_generator.state
    return found


def _wrappers(env: Any) -> list[Any]:
    return [env, *(_wrappers(env.env) if hasattr(env, "env") else [])]
