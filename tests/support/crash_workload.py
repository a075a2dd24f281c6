"""A short life of a training tree, and what must hold of it after any crash (the invariants I1 to I6).

Every byte follows from the step, so that a mix of two steps cannot go unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Disk, Lineage, TrainingTree, contents
from kaggle_manager.checkpoints.contents import Content
from kaggle_manager.checkpoints.manifest import ReplayCommit
from kaggle_manager.checkpoints.replay_capture import ReplayCapture
from kaggle_manager.checkpoints.replay_log import ReplayLog, load

SCENARIO = "traffic"
TARGET = 100
CAPACITY = 8
LINEAGE = Lineage("run-1", 1, None, 0)
COMMON: dict[str, Any] = {"target": TARGET, "lineage": LINEAGE, "bundle_sha256": "b" * 64}

BEST = {1: -50.0, 2: -60.0, 3: -20.0}
"""Step -> score; the second is worse than the first."""


def model_bytes(step: int) -> bytes:
    return hashlib.sha256(f"model {step}".encode()).digest() * 3


def state_bytes(step: int) -> bytes:
    return hashlib.sha256(f"state {step}".encode()).digest() * 2


OWN = "nets/actor.pt"
"""A script's own file, in a folder of its own."""


def own_bytes(step: int) -> bytes:
    return hashlib.sha256(f"own {step}".encode()).digest()


def rows_at(step: int) -> int:
    """Rows written by then: the ring of eight turns between the second and the third step."""
    return 3 * step


def ring(rows: int, capacity: int = CAPACITY) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a replay buffer into which `rows` transitions were put."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "observations": np.zeros((capacity, 1, 2), np.float32),
        "next_observations": np.zeros((capacity, 1, 2), np.float32),
        "rewards": np.zeros((capacity, 1), np.float32),
    }
    for row in range(max(0, rows - capacity), rows):
        arrays["observations"][row % capacity] = row + 0.5
        arrays["next_observations"][row % capacity] = row + 1.5
        arrays["rewards"][row % capacity] = -row
    return arrays


class RingLog:
    """The log of the ring, as a trainer and its writing process keep it together."""

    def __init__(self, tree: TrainingTree, disk: Disk | None = None) -> None:
        self._folder, self._disk = tree.replay, disk
        self._capture = ReplayCapture(shared={"next_observations": "observations"})
        self._log = ReplayLog(tree.replay, disk=disk)

    def append(self, rows: int) -> ReplayCommit:
        """Write what is new when the run has written `rows` rows; at even numbers in two parts."""
        arrays = ring(rows)
        if rows % 2 == 0 and rows - self._capture.rows > 1:
            self._log.write(self._capture.take(arrays, rows=rows, upto=rows - 1))
        return self._log.write(self._capture.take(arrays, rows=rows))

    def resume(self, commit: ReplayCommit, *, verified: bool) -> None:
        arrays = ring(0)
        load(self._folder, commit, arrays, verified=verified, disk=self._disk)
        self._capture.restored(arrays, commit.rows)
        self._log.resume(commit)


@dataclass
class Promises:
    """What the store has acknowledged."""

    latest: list[int] = field(default_factory=list)
    best: float | None = None
    final: int | None = None


def resume_log(store: CheckpointStore, disk: Disk | None = None) -> tuple[RingLog, int]:
    """Open the log where the newest checkpoint left it, as a trainer does; also return that step."""
    store.recover()
    log, head = RingLog(store.tree, disk), store.claim_latest_checkpoint()
    if head is None:
        return log, 0
    if head.manifest.replay is not None:
        log.resume(head.manifest.replay, verified=True)
    return log, head.step


def save(store: CheckpointStore, log: RingLog, step: int) -> Checkpoint:
    return store.save_latest(
        step=step,
        files={"model": model_bytes(step), "state": state_bytes(step), OWN: own_bytes(step)},
        replay=log.append(rows_at(step)),
        **COMMON,
    )


def save_best(store: CheckpointStore, step: int, score: float, of: Checkpoint | None = None) -> bool:
    """With the files of a checkpoint; else with a model of its own, and every second time with statistics beside it."""
    files: dict[str, Content] = {"model": model_bytes(step)} if of is None else dict(of.usable())
    if of is None and step % 2:
        files["statistics"] = state_bytes(step)
    return store.save_best(score=score, step=step, files=files, metrics={"seen": step}, **COMMON)


def save_final(store: CheckpointStore, step: int) -> Checkpoint:
    """With the model of the newest checkpoint, where that is of this step."""
    newest = store.find_latest_checkpoint()
    shared = newest is not None and newest.step == step
    model: Content = newest.shared("model") if newest is not None and shared else model_bytes(step)
    return store.save_final(step=step, files={"model": model, "replay_buffer": state_bytes(step)}, **COMMON)


@patch.object(contents, "SHARED_FROM", 0)
def run(root: Path, disk: Disk, promised: Promises, *, steps: int = 3, acknowledge: Callable[[], None]) -> None:
    """Live: some saves, an evaluation after each, the final model at the end; note every promise given."""
    store = CheckpointStore(TrainingTree(root, SCENARIO), disk=disk, warn=_silent)
    log, done = resume_log(store, disk)
    for step in range(done + 1, steps + 1):
        saved = save(store, log, step)
        promised.latest.append(step)
        acknowledge()
        if step in BEST:
            if save_best(store, step, BEST[step], saved if step == steps else None):
                promised.best = max(BEST[step], promised.best or BEST[step])
            acknowledge()
    save_final(store, steps)
    promised.final = steps
    acknowledge()


def violations(root: Path, promised: Promises, *, go_on: bool = True) -> list[str]:
    """Say which invariant does not hold of the tree at `root`; looks before and after the store's own recovery.

    With `go_on`, the training then continues in it for two saves.
    """
    tree = TrainingTree(root, SCENARIO)
    warned: list[str] = []
    store = CheckpointStore(tree, warn=warned.append)
    found = [f"before recovery: {problem}" for problem in _latest_violations(store, promised)]
    store.recover()
    if store.recover():
        found.append("recovery does not settle the tree at once")
    found += [f"after recovery: {problem}" for problem in _latest_violations(store, promised)]
    head = store.claim_latest_checkpoint()
    found += _best_and_final_violations(store, promised)
    return found + (_going_on_violations(store, head) if go_on else [])


def _going_on_violations(store: CheckpointStore, head: Checkpoint | None) -> list[str]:
    found = []
    log = RingLog(store.tree)
    if head is not None and head.manifest.replay is not None:
        log.resume(head.manifest.replay, verified=False)
    following = (head.step if head else 0) + 1
    save(store, log, following)
    save(store, log, following + 1)
    steps = [checkpoint.step for checkpoint in store.valid_checkpoints()]
    if steps != [following + 1, following]:
        found.append(f"I1b: two more saves leave {steps}")
    names = [path.name for path in store.tree.checkpoints.rglob("*") if path.is_file() and path.parent.name != "replay"]
    if len(names) != 8:
        found.append(f"I6: {len(names)} files for two checkpoints: {sorted(names)}")
    return found


def _latest_violations(store: CheckpointStore, promised: Promises) -> list[str]:
    found = []
    valid = store.valid_checkpoints()
    if len(valid) < min(len(promised.latest), 2):
        found.append(f"{'I1b' if valid else 'I1'}: {len(valid)} valid after {len(promised.latest)} saves")
    if len(valid) > 3:
        found.append(f"I6: {len(valid)} latest checkpoints")
    if promised.latest and valid and valid[0].step < promised.latest[-1]:
        found.append(f"I3: newest is {valid[0].step} and {promised.latest[-1]} was acknowledged")
    return found + [problem for checkpoint in valid for problem in mixed(checkpoint)]


def mixed(checkpoint: Checkpoint) -> list[str]:
    """Say what of a checkpoint is not of its step (I2)."""
    step = checkpoint.step
    found = []
    expected = {"model": model_bytes(step), "state": state_bytes(step), OWN: own_bytes(step)}
    if any(checkpoint.read(role) != data for role, data in expected.items()):
        found.append(f"I2: step {step} has files of another step")
    replay = checkpoint.manifest.replay
    if replay is not None:
        into, rows = ring(0), ring(rows_at(step))
        load(checkpoint.tree.replay, replay, into)
        if any(into[name].tobytes() != rows[name].tobytes() for name in rows):
            found.append(f"I2: step {step} has replay rows of another step")
    return found


def _best_and_final_violations(store: CheckpointStore, promised: Promises) -> list[str]:
    found = []
    best = store.best()
    if promised.best is not None and (best is None or best.manifest.score is None):
        found.append("I4: the best model is lost")
    elif best is not None:
        score = best.manifest.score
        if promised.best is not None and score is not None and score < promised.best:
            found.append(f"I4: best is {score} and {promised.best} was acknowledged")
        there = {path.name for path in store.tree.best_folder.iterdir()}
        if there != {*(file.name for file in best.manifest.files), store.tree.manifest_name("best")}:
            found.append(f"I6: beside the best model lies what is not its: {sorted(there)}")
        if best.read("model") != model_bytes(best.manifest.metrics["seen"]):
            found.append("I4: the best model is not the one of its score")
    final = store.final()
    if promised.final is not None and (final is None or final.step != promised.final):
        found.append("I5: the final model is lost")
    if final is not None and final.model_path.read_bytes() != model_bytes(final.step):
        found.append("I5: the final model is not the one of its step")
    return found


def _silent(message: str) -> None:
    """Damage is expected here; the tests look at the tree itself."""
