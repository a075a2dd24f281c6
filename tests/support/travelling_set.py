"""What travels into a session, tried under the Python that runs this: all of it imported that needs no training
library, a section read, and a training tree with replay rows continued by one checkpoint and packed.

Says as JSON what came out.

    python -W error tests/support/travelling_set.py FOLDER
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("torch", "stable_baselines3", "gymnasium", "cloudpickle", "tensorboard")
# What is copied beside a user's script finds the others there, and is imported by none of ours.
COPIED = ("resumable", "lightning", "pytorch_lightning", "transformers")
sys.path.insert(0, str(ROOT))
sys.modules.update(dict.fromkeys(TRAINING))  # as if they were not installed, where they are

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree, pack_tree  # noqa: E402
from kaggle_manager.checkpoints.replay_capture import ReplayCapture  # noqa: E402
from kaggle_manager.checkpoints.replay_log import ReplayLog, load  # noqa: E402
from kaggle_manager.sections.identity import identity_of  # noqa: E402
from kaggle_manager.sections.project import get_section  # noqa: E402
from kaggle_manager.sessions.bundle import RUNTIME, build_bundle  # noqa: E402

SECTION = "section_7_6_rl_performance"
CAPACITY, STEPS = 64, 40


def imported() -> dict[str, list[str]]:
    """The modules that travel: those that import here, and those that want a training library."""
    found: dict[str, list[str]] = {"here": [], "training": []}
    files = [file for entry in RUNTIME for file in ([ROOT / entry] if entry.endswith(".py") else [])]
    files += [file for entry in RUNTIME if not entry.endswith(".py") for file in (ROOT / entry).rglob("*.py")]
    for file in sorted(files):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] not in (*TRAINING, *COPIED):
                raise
            found["training"].append(name)
        else:
            found["here"].append(name)
    return found


def ring(rows: int) -> dict[str, np.ndarray]:
    """A replay buffer of so many transitions, as a training that began anywhere would fill it."""
    every = np.arange(CAPACITY * 3 + 3, dtype=np.float32).reshape(-1, 1, 3) / 7
    found = {
        "observations": np.zeros((CAPACITY, 1, 3), np.float32),
        "next_observations": np.zeros((CAPACITY, 1, 3), np.float32),
        "rewards": np.zeros((CAPACITY, 1), np.float32),
        "dones": np.zeros((CAPACITY, 1), np.bool_),
    }
    for row in range(rows):
        at = row % CAPACITY
        found["observations"][at], found["next_observations"][at] = every[at], every[at + 1]
        found["rewards"][at], found["dones"][at] = np.float32(row) / 3, row % 10 == 9
    return found


def continued(folder: Path) -> int:
    """The tree in `folder`, with one checkpoint more; what is there must be what was to be saved."""
    tree = TrainingTree(folder, "traffic")
    store = CheckpointStore(tree, now=lambda: "2026-11-01T00:00:00+00:00", warn=sys.exit)
    capture = ReplayCapture(shared={"next_observations": "observations"}, rewritten=[])
    log = ReplayLog(tree.replay)
    head = store.claim_latest_checkpoint()
    step = 0
    if head is not None:
        step, commit = head.step, head.manifest.replay
        assert commit is not None
        arrays = ring(0)
        load(tree.replay, commit, arrays, in_order=False)
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in ring(step).items()
        }
        capture.restored(arrays, commit.rows)
        log.resume(commit)
    step += STEPS
    store.save_latest(
        step=step,
        target=1000,
        lineage=Lineage("run", 1, None, 0),
        bundle_sha256="b" * 64,
        files={"model": f"model at {step}".encode(), "state": np.linspace(0, 1, step).tobytes()},
        replay=log.write(capture.take(ring(step), rows=step)),
    )
    return step


def main(folder: Path) -> None:
    found = imported()
    section = get_section(ROOT, SECTION)
    step = continued(folder / "models")
    parts = pack_tree(TrainingTree(folder / "models", "traffic"), folder / f"pack_{step}")
    gc.collect()  # what was left open is said now
    said = {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "imported": found["here"],
        "training": found["training"],
        "step": step,
        "pack": [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts],
        "bundle": build_bundle(ROOT, section).sha256,
        "identity": identity_of(section, section.default_scenario or "", ROOT),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
