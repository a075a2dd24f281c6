"""Proof on this machine that a resume cannot be told from no interruption.

    python -m kaggle_manager.trainer.sb3.selftest --algo dqn ppo

For each case one training runs to its target without a checkpoint on the way; another is killed with SIGKILL, at random
moments and inside saves by turns, and started again until it ends. Both must have the same digests: networks,
optimizers, replay rows, random generators, environments, counters, evaluations, best model, curves. A state that
differs is named.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.system.arguments import ArgumentParser
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.pickles import read_tensors
from kaggle_manager.trainer.sb3.resume_point import find_resume_point
from kaggle_manager.trainer.sb3.selftest_cases import ALGORITHMS, CASES, OPTIONS, SHIPPED
from kaggle_manager.trainer.sb3.selftest_disk import FatalDisk
from kaggle_manager.trainer.sb3.state_digest import differing, digest
from kaggle_manager.trainer.sb3.tensorboard_log import FILE_NAME, is_available, read_points
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

_SCENARIO = "selftest"
# A save has about 25 effects on files, so a kill drawn below this strikes within the first few of a session.
_EFFECTS = 60
_IDENTITY = {"environment_fingerprint": "selftest", "reward_fingerprint": "selftest"}


@dataclass(frozen=True)
class Proof:
    """What came of one case.

    Attributes:
        case: its name.
        differing: states that differ; none when the resume is exact.
        told: how exactly it resumes, as the final model has it; "none" for not at all.
        resumed_from: the timesteps that the last session of what was killed continued from.
        kills: that struck, anywhere.
        kills_in_saves: those of them inside a save.
        seconds: the whole proof took.
    """

    case: str
    differing: list[str]
    told: str
    resumed_from: int
    kills: int
    kills_in_saves: int
    seconds: float

    @property
    def fault(self) -> str:
        """What is wrong, in words; '' for the same end of a training that has resumed, and is said to do so exactly."""
        if self.differing:
            return f"differs in {', '.join(self.differing)}"
        if self.told == "none":
            return "identical, though called inexact"
        return "" if self.resumed_from else "identical, and proves nothing: killed before there was a checkpoint"


def prove(name: str, folder: Path, *, kills: int = 3, seed: int = 0, device: str = "cpu") -> Proof:
    """Run a case uninterrupted and cut, and compare.

    Args:
        name: a key of `CASES`.
        folder: an empty folder to work in.
        kills: how many times to kill the second training; every other time inside a save. It is killed more often
            where there is no checkpoint by then: an end from zero would prove nothing.
        seed: draws the moments.
        device: of torch, to train on.

    Raises:
        RuntimeError: a training ended by itself with an error; the message has the end of its log.
    """
    started = time.monotonic()
    moments = random.Random(seed)
    reference = _run(name, folder / "uninterrupted", _Kill(), device, saves=False)
    assert reference is not None
    rollouts, _ = int(reference.pop("rollouts")), reference.pop("resumed_from")
    struck = {"anywhere": 0, "in a save": 0}
    evidence = None
    while evidence is None:
        number = sum(struck.values())
        where, kill = "anywhere", _Kill()
        if number < kills and number % 2:
            where, kill = "in a save", _Kill(at_effect=moments.randrange(_EFFECTS))
        elif number < kills or (kills and not _has_checkpoint(folder / "cut")):
            # On average a share of the whole, so that all of them strike; each anywhere within twice that share.
            kill = _Kill(
                at_rollout=moments.randint(1, max(1, 2 * rollouts // (kills + 1))), wait_s=moments.random() / 20
            )
        evidence = _run(name, folder / "cut", kill, device, saves=True)
        struck[where] += evidence is None
    del evidence["rollouts"]
    seconds = time.monotonic() - started
    told, resumed_from = evidence["exactness"], int(evidence.pop("resumed_from"))
    differs = differing(reference, evidence)
    return Proof(name, differs, told, resumed_from, sum(struck.values()), struck["in a save"], seconds)


def _has_checkpoint(folder: Path) -> bool:
    return any(TrainingTree(folder / "tree", _SCENARIO).checkpoints.glob("*.manifest.json"))


@dataclass(frozen=True)
class _Kill:
    """When a session is killed: `wait_s` after the start of a rollout, or at an effect of its saves on files; both are
    counted within the session. Never, if neither is given.
    """

    at_rollout: int | None = None
    wait_s: float = 0.0
    at_effect: int | None = None


def _run(name: str, folder: Path, kill: _Kill, device: str, *, saves: bool) -> dict[str, str] | None:
    """One session in a process of its own: its evidence, or None when it was killed."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # torch imports the second one at the first optimizer, which takes as long as a small training.
        context.set_forkserver_preload([__name__, "torch._dynamo"])
    folder.mkdir(parents=True, exist_ok=True)
    reached, dying = context.Event(), context.Event()
    process = context.Process(target=_session, args=(name, str(folder), saves, kill, device, reached, dying))
    process.start()
    try:
        while not reached.wait(0.02) and process.is_alive():
            pass
        process.join(kill.wait_s if reached.is_set() else None)
        killed = process.is_alive()
    finally:
        process.kill()
        process.join()
    if killed or dying.is_set():
        return None
    if process.exitcode != 0:
        raise RuntimeError(f"{name} ended with code {process.exitcode}:\n{_tail(folder / 'log.txt')}")
    evidence: dict[str, str] = json.loads((folder / "evidence.json").read_text())
    return evidence


class _AnnouncingClock(SessionClock):
    """Counts the rollouts, and says when the given one starts."""

    def __init__(self, at_rollout: int | None, reached: Event) -> None:
        super().__init__()
        self.rollouts = 0
        self._at_rollout = at_rollout
        self._reached = reached

    def why_stop(self, steps_this_session: int) -> str:
        self.rollouts += 1
        if self.rollouts == self._at_rollout:
            self._reached.set()
        return super().why_stop(steps_this_session)


def _session(name: str, folder: str, saves: bool, kill: _Kill, device: str, reached: Event, dying: Event) -> None:
    """In the child: train one case from wherever its tree is, and leave the evidence."""
    # Nothing may depend on the generators this process happens to inherit.
    random.seed(os.urandom(8))
    np.random.seed(int.from_bytes(os.urandom(4), "little"))
    torch.seed()
    case, root = CASES[name], Path(folder)
    with _output_in(root / "log.txt"):
        config = TrainingConfig(
            scenario=_SCENARIO,
            algorithm=case.algorithm_name,
            policy=case.policy,
            hyperparameters=case.hyperparameters(),
            environments=case.environments,
            callbacks=case.callbacks,
            build=case.build,
            total=case.total,
            tree=root / "tree",
            lineage=Lineage("selftest", 1, None, 0),
            seed=11,
            save_every=max(case.total // 12, 1) if saves else case.total,
            evaluate_every=case.total // 4,
            evaluation_episodes=2,
            device=device,
            identity=_IDENTITY,
        )
        tree = TrainingTree(config.tree, _SCENARIO)
        disk = None if kill.at_effect is None else FatalDisk(kill.at_effect, dying.set)
        resume_point, clock = (
            find_resume_point(tree, fresh=False, warn=warn, check=lambda _: None),  # of this very proof
            _AnnouncingClock(kill.at_rollout, reached),
        )
        outcome = train(config, resume_point, clock, disk=disk)
        final = CheckpointStore(tree, warn=warn).final()
        told = final.manifest.exact["exact"] if final else "nothing"
        counted = {"rollouts": str(clock.rollouts), "resumed_from": str(outcome.resumed_from)}
        evidence = {**outcome.digests, **curves(tree), "exactness": told, **counted}
    (root / "evidence.json").write_text(json.dumps(evidence))


@contextlib.contextmanager
def _output_in(path: Path) -> Iterator[None]:
    """Everything printed in this process and those it starts, and the traceback of an error, in a file."""
    with path.open("a", buffering=1) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        try:
            yield
        except Exception:
            traceback.print_exc()
            sys.exit(1)


def curves(tree: TrainingTree) -> dict[str, str]:
    """Digests of what a training leaves for readers: episodes, evaluations, best model, TensorBoard's curves."""
    found = {} if not is_available() else {"tensorboard": digest(read_points(tree.history / "tensorboard" / FILE_NAME))}
    rows = (tree.history / "monitor.csv").read_text().splitlines()[2:]
    parameters, _ = read_tensors(tree.best_model.read_bytes(), "cpu")
    return found | {
        "monitor.csv": digest([(*row.split(",")[:2], *row.split(",")[3:]) for row in rows]),  # without the time
        "evaluations.npz": digest(dict(np.load(tree.history / "evaluations.npz"))),
        "best_model.zip": digest(parameters),
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-100:]) if log.exists() else "(no log)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the chosen cases; 0 when none differs."""
    options = _parser().parse_args(arguments)
    names = list(CASES) if "all" in options.algo else options.algo
    print("Each training runs once uninterrupted and once killed with SIGKILL again and again; then all is compared.")
    proofs = []
    with scratch_folder("km_selftest_") as folder:
        for name in names:
            print(f"  {name:18} {CASES[name].total:5} steps  ", end="", flush=True)
            proof = prove(name, folder / name, kills=options.kills, seed=options.seed)
            said = f"NOT exact: {proof.fault}" if proof.fault else "identical"
            print(f"killed {proof.kills} times, {proof.kills_in_saves} in a save: {said} ({proof.seconds:.1f} s)")
            proofs.append(proof)
    failed = [proof.case for proof in proofs if proof.fault]
    seconds = sum(proof.seconds for proof in proofs)
    if failed:
        print(f"NOT exact on this machine: {', '.join(failed)} ({seconds:.0f} s).")
        return 1
    print(f"Exact on this machine: {len(proofs)} of {len(proofs)} trainings end with the same bits ({seconds:.0f} s).")
    return 0


def _case(text: str) -> str:
    if text not in (*CASES, "all"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a case: give an algorithm ({', '.join(ALGORITHMS)}), ALGORITHM-OPTION, or all"
        )
    return text


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m kaggle_manager.trainer.sb3.selftest",
        description="Prove on this machine that a training killed with SIGKILL and resumed ends with the same bits.",
    )
    parser.add_argument(
        "--algo",
        nargs="+",
        type=_case,
        default=list(SHIPPED),
        metavar="CASE",
        help=f"an algorithm ({', '.join(ALGORITHMS)}), with an option that it has as ALGORITHM-OPTION "
        f"({', '.join(option for option in OPTIONS if option != 'plain')}), or all. Default: {' '.join(SHIPPED)}",
    )
    parser.add_argument("--kills", type=int, default=3, help="for each case; every other one inside a save")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills")
    return parser


if __name__ == "__main__":
    sys.exit(main())
