"""Proof on this machine that a resume cannot be told from no interruption.

    python -m kernels.rl_training.selftest --algo dqn ppo

For each case one training runs to its target without a checkpoint on the way; another is killed with SIGKILL at random
moments - inside a save, inside an evaluation, anywhere - and started again until it ends. Both must have the same
certificate: networks, optimizers, replay rows, random generators, environments, counters, evaluations, curves. A state
that differs is named.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from kaggle_manager.checkpoints import Lineage, TrainingTree
from kernels.rl_training.certificate import differing, digest
from kernels.rl_training.log_lines import warn
from kernels.rl_training.origin import find_origin
from kernels.rl_training.selftest_cases import CASES, SHIPPED
from kernels.rl_training.session_clock import SessionClock
from kernels.rl_training.settings import TrainingSettings
from kernels.rl_training.tensorboard_log import FILE_NAME, is_available, read_points
from kernels.rl_training.trainer import train

_SCENARIO = "selftest"
_IDENTITY = {"environment_fingerprint": "selftest", "reward_fingerprint": "selftest"}


@dataclass(frozen=True)
class Proof:
    """What came of one case: states that differ (none when the resume is exact), kills that struck, seconds."""

    case: str
    differing: list[str]
    kills: int
    seconds: float


def prove(name: str, folder: Path, *, kills: int = 3, seed: int = 0) -> Proof:
    """Run a case uninterrupted and cut, and compare.

    Args:
        name: a key of `CASES`.
        folder: an empty folder to work in.
        kills: how many times to kill the second training.
        seed: draws the moments.

    Raises:
        RuntimeError: a training ended by itself with an error; the message has the end of its log.
    """
    started = time.monotonic()
    moments = random.Random(seed)
    reference, duration = _run(name, folder / "uninterrupted", saves=False, kill_after=None)
    assert reference is not None
    struck = 0
    evidence = None
    while evidence is None:
        # On average a share of the whole, so that all of them strike; each anywhere within twice that share.
        after = moments.uniform(0.0, 2 * duration / (kills + 1)) if struck < kills else None
        evidence, _ = _run(name, folder / "cut", saves=True, kill_after=after)
        struck += evidence is None
    return Proof(name, differing(reference, evidence), struck, time.monotonic() - started)


def _run(name: str, folder: Path, *, saves: bool, kill_after: float | None) -> tuple[dict[str, str] | None, float]:
    """One session in a process of its own: its evidence, or None when it was killed; and its seconds of training."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # torch imports the second one at the first optimizer, which takes as long as a small training.
        context.set_forkserver_preload([__name__, "torch._dynamo"])
    folder.mkdir(parents=True, exist_ok=True)
    begun: Event = context.Event()
    process = context.Process(target=_session, args=(name, str(folder), saves, begun))
    process.start()
    try:
        while not begun.wait(0.02):
            if not process.is_alive():
                break
        started = time.monotonic()
        process.join(kill_after)
        killed = process.is_alive()
        if killed:
            process.kill()
        process.join()
    finally:
        if process.is_alive():
            process.kill()
    if killed:
        return None, 0.0
    if process.exitcode != 0:
        raise RuntimeError(f"{name} ended with code {process.exitcode}:\n{_tail(folder / 'log.txt')}")
    evidence: dict[str, str] = json.loads((folder / "evidence.json").read_text())
    return evidence, time.monotonic() - started


class _AnnouncingClock(SessionClock):
    """Says when the training has begun, at the first rollout start."""

    def __init__(self, begun: Event) -> None:
        super().__init__()
        self._begun = begun

    def why_stop(self, steps_this_session: int) -> str:
        self._begun.set()
        return super().why_stop(steps_this_session)


def _session(name: str, folder: str, saves: bool, begun: Event) -> None:
    """In the child: train one case from wherever its tree is, and leave the evidence."""
    # Nothing may depend on the generators this process happens to inherit.
    random.seed(os.urandom(8))
    np.random.seed(int.from_bytes(os.urandom(4), "little"))
    torch.seed()
    case, root = CASES[name], Path(folder)
    with (root / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        settings = TrainingSettings(
            scenario=_SCENARIO,
            algorithm=case.algorithm,
            policy="MlpPolicy",
            hyperparameters=case.hyperparameters(),
            environment=case.environment,
            total=case.total,
            tree=root / "tree",
            lineage=Lineage("selftest", 1, None, 0),
            seed=11,
            save_every=max(case.total // 12, 1) if saves else case.total,
            evaluate_every=case.total // 4,
            evaluation_episodes=2,
            identity=_IDENTITY,
        )
        settings = replace(settings, **case.options)
        tree = TrainingTree(settings.tree, _SCENARIO)
        outcome = train(settings, find_origin(tree, fresh=False, warn=warn), _AnnouncingClock(begun))
        evidence = {**outcome.certificate, **curves(tree)}
    (root / "evidence.json").write_text(json.dumps(evidence))


def curves(tree: TrainingTree) -> dict[str, str]:
    """Digests of what a training leaves for people: episodes, evaluations, best model, TensorBoard's curves."""
    found = {} if not is_available() else {"tensorboard": digest(read_points(tree.history / "tensorboard" / FILE_NAME))}
    rows = (tree.history / "monitor.csv").read_text().splitlines()[2:]
    _, parameters, _ = load_from_zip_file(io.BytesIO(tree.best_model.read_bytes()), load_data=False)
    return found | {
        "monitor.csv": digest([row.rpartition(",")[0] for row in rows]),  # without the time
        "evaluations.npz": digest(dict(np.load(tree.history / "evaluations.npz"))),
        "best_model.zip": digest(parameters),
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else "(no log)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the chosen cases; 0 when none differs."""
    parser = argparse.ArgumentParser(prog="python -m kernels.rl_training.selftest", description=__doc__)
    parser.add_argument("--algo", nargs="+", choices=[*CASES, "all"], default=list(SHIPPED))
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills")
    options = parser.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="km_selftest_") as folder:
        for name in CASES if "all" in options.algo else options.algo:
            proof = prove(name, Path(folder) / name, kills=options.kills, seed=options.seed)
            said = f"DIFFERS in {', '.join(proof.differing)}" if proof.differing else "identical"
            print(f"{name:16} {CASES[name].total:6} steps, killed {proof.kills} times: {said} ({proof.seconds:.1f} s)")
            failed += bool(proof.differing)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
