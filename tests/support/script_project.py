"""A project whose scenario is a script, and a manager for it on a local Kaggle. No training library is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from small_project import Bench

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.trainer.script.saves import unpack

SECTION = "toy"

TOML = """
name = "toy"
title = "A script"
trains = true
default_scenario = "toy"

[scenarios.toy]
script = "train.py"
target = 40
unit = "epochs"
seed = 7
models = "data/models"
{more}

[scenarios.toy.quick]
target = 4
models = "data/models_quick"
"""

# Each step makes its state of the one before, as learning does: a step lost or done twice shows in the end.
TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
from lib.steps import after

saves, target, step = Path(os.environ["KM_SESSION_SAVES"]), int(os.environ["KM_SESSION_TARGET"]), 0
state, resume = b"%d" % int(os.environ["KM_SESSION_SEED"]), os.environ.get("KM_SESSION_RESUME")
if resume:
    step, state = int(os.environ["KM_SESSION_STEP"]), (Path(resume) / "state.bin").read_bytes()
    assert step == int(Path(resume).name)
stop_at = int(os.environ.get("KM_SESSION_STOP_AT", target))
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))

def save():
    folder = saves / f"{step}.tmp"
    (folder / "parts").mkdir(parents=True)
    (folder / "state.bin").write_bytes(state)
    (folder / "parts/.odd name").write_text(str(step))
    folder.rename(saves / str(step))

print("the script begins at", step)
while step < stop_at and not stopped:
    step, state = step + 1, after(step + 1, state)
    with (saves / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "name": "loss", "value": abs(step - 30)}), file=file)
    if step % 10 == 0 or step == stop_at:
        save()
    # PLAN
if stopped:
    save()
"""


@dataclass
class ScriptBench(Bench):
    """As `Bench`; what the script does at each step is edited into it."""

    more: str = ""
    seen: dict[str, Any] = field(default_factory=dict)

    def write(self, plan: str = "pass", *, script: str = TRAIN, more: str = "", files: Mapping[str, str] = {}) -> None:
        """Write the project; `plan` is run after each step, with everything of the script in reach."""
        section = self.project / "sections" / SECTION
        section.mkdir(parents=True, exist_ok=True)
        (section / "section.toml").write_text(TOML.format(more=more))
        (self.project / "lib").mkdir(exist_ok=True)
        texts = {
            "lib/steps.py": "import hashlib\n\ndef after(step, state):\n"
            "    return hashlib.sha256(state + b'%d' % step).digest()\n",
            "train.py": script.replace("# PLAN", plan.replace("\n", "\n    ")),
            **files,
        }
        for name, text in texts.items():
            (self.project / name).write_text(text)

    def run(self, *, timesteps: int | None = None, interrupt_at: str = "", **options: Any) -> Any:
        self.told = type(self.told)()
        return self.manager().run_validation_section(SECTION, timesteps=timesteps, **options)

    @property
    def tree(self) -> TrainingTree:
        return TrainingTree(self.workdir / "sections" / SECTION / "data/models", SECTION)

    def final(self) -> Checkpoint | None:
        return CheckpointStore(self.tree).final()


def state_after(steps: int, seed: int = 7) -> bytes:
    """What a training that was never cut ends with."""
    state = b"%d" % seed
    for step in range(1, steps + 1):
        state = hashlib.sha256(state + b"%d" % step).digest()
    return state


def files_of(checkpoint: Checkpoint, folder: Path) -> dict[str, bytes]:
    """A script's files of a checkpoint, as it would find them when it resumes."""
    unpack(checkpoint, folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
