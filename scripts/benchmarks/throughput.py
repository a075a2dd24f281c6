"""How fast a training is beside Stable-Baselines3's own with equal settings: what checkpoints and evaluations cost.

Each case trains the same algorithm, environment, seed and steps five ways, in turns, so that whatever else the machine
does falls on all of them alike:

    bare          `learn()` and nothing else
    ours          with checkpoints at the adaptive cadence, no evaluation
    ours/100      with a checkpoint every 100 steps
    ours+eval     with checkpoints at the adaptive cadence, and evaluations of ten episodes
    stock+eval    `CheckpointCallback(save_replay_buffer=True)` and `EvalCallback` at the same steps

Every one is timed from its first rollout start to its last, with the saves and evaluations between; one torch thread.
A ratio is the speed of one by that of the other in the same round, by wall time and by the CPU time of the training's
process, which says more on a machine that others use; medians of all rounds are shown.

    python scripts/benchmarks/throughput.py --quick                two cases, a minute or two, prints only
    python scripts/benchmarks/throughput.py --only PPO DQN         some cases
    python scripts/benchmarks/throughput.py --write                all of them, into docs/robustness_data.md

Hopper and Breakout need MuJoCo and ale-py; a case whose environment is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import kaggle_manager.trainer.sb3  # noqa: F401 - pins the arithmetic before torch is imported

# isort: split
import gymnasium as gym
import torch
from kept_section import commit, replace_section
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack

from kaggle_manager.checkpoints import Lineage
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import determinism
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.resume_point import ResumePoint
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import TrainingConfig, adaptive_save_every

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"DQN": DQN, "PPO": PPO, "SAC": SAC}
VARIANTS = ("bare", "ours", "ours/100", "ours+eval", "stock+eval")
OFTEN = 100
NEVER = 10**9
EPISODES = 10
SEED = 1


@dataclass(frozen=True)
class Case:
    """One training; `every` is the timesteps between two evaluations."""

    algorithm: str
    environment: str
    steps: int
    n_envs: int = 1
    processes: bool = False
    every: int = 1_000
    policy: str = "MlpPolicy"
    hyperparameters: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        envs = "" if self.n_envs == 1 else f", {self.n_envs} {'processes' if self.processes else 'environments'}"
        return f"{self.algorithm} {self.environment}{envs}"

    @property
    def is_atari(self) -> bool:
        return self.environment.startswith("ALE/")

    def make(self) -> gym.Env[Any, Any]:
        if self.is_atari:
            ale_py = importlib.import_module("ale_py")

            gym.register_envs(ale_py)
            return gym.make(self.environment, frameskip=1, repeat_action_probability=0.0)
        return gym.make(self.environment)

    def monitored(self) -> gym.Env[Any, Any]:
        """As Stable-Baselines3's `make_vec_env` and `make_atari_env` have it."""
        env = Monitor(self.make())
        return AtariWrapper(env) if self.is_atari else env

    @property
    def environments(self) -> Environments:
        around: dict[str, Any] = {"wrappers": [AtariWrapper], "frame_stack": 4} if self.is_atari else {}
        return Environments(self.make, self.n_envs, self.processes, **around)


def cases() -> list[Case]:
    replay = {"buffer_size": 100_000, "learning_starts": 100}
    counts = [(1, False), (4, False), (8, False), (4, True), (8, True)]
    ppo = [Case("PPO", "CartPole-v1", 40_960, n, processes, every=10_000) for n, processes in counts]
    ppo += [Case("PPO", "Hopper-v5", 32_768, n, processes, every=16_000) for n, processes in counts]
    images = {"buffer_size": 10_000, "learning_starts": 1_000, "optimize_memory_usage": False}
    return [
        *ppo,
        Case("SAC", "Pendulum-v1", 2_500, hyperparameters=replay),
        Case("DQN", "CartPole-v1", 20_000, every=2_000, hyperparameters=replay),
        Case("DQN", "ALE/Breakout-v5", 4_000, every=2_000, policy="CnnPolicy", hyperparameters=images),
    ]


def quick_cases() -> list[Case]:
    return [
        Case("PPO", "CartPole-v1", 8_192, 4, every=2_000, hyperparameters={"n_steps": 512}),
        Case("DQN", "CartPole-v1", 6_000, every=2_000, hyperparameters={"buffer_size": 10_000, "learning_starts": 100}),
    ]


# --- one training -----------------------------------------------------------------------------------------------------


@dataclass
class Span:
    """What passes between the first rollout start and the last: timesteps, wall time, and CPU time of the training's
    process (not of those beside it, nor of environments in processes of their own).
    """

    first: tuple[int, float, float] = (0, 0.0, 0.0)
    last: tuple[int, float, float] | None = None

    def at(self, step: int) -> None:
        now = (step, time.perf_counter(), time.process_time())
        self.first, self.last = (now, now) if self.last is None else (self.first, now)

    @property
    def seconds_a_step(self) -> tuple[float, float]:
        """Wall, CPU."""
        assert self.last is not None
        steps = self.last[0] - self.first[0]
        return (self.last[1] - self.first[1]) / steps, (self.last[2] - self.first[2]) / steps


def measured(case: Case, variant: str, folder: Path) -> tuple[float, float]:
    """Seconds of a timestep, with what happens between: wall, CPU."""
    span = Span()
    if variant.startswith("ours"):
        _ours(case, folder, span, NEVER if "eval" not in variant else case.every, OFTEN if "/" in variant else None)
    else:
        _stock(case, folder, span, evaluates="eval" in variant)
    return span.seconds_a_step


class _Clock(SessionClock):
    def __init__(self, span: Span) -> None:
        super().__init__()
        self._span = span

    def why_stop(self, steps_this_session: int) -> str:
        self._span.at(steps_this_session)
        return super().why_stop(steps_this_session)


def _ours(case: Case, folder: Path, span: Span, evaluate_every: int, save_every: int | None) -> None:
    config = TrainingConfig(
        scenario="throughput",
        algorithm=case.algorithm,
        policy=case.policy,
        hyperparameters=case.hyperparameters,
        environments=case.environments,
        total=case.steps,
        tree=folder,
        lineage=Lineage("benchmark", 1, None, 0),
        seed=SEED,
        save_every=save_every,
        evaluate_every=evaluate_every,
        evaluation_episodes=EPISODES,
        identity={"environment_fingerprint": "benchmark", "reward_fingerprint": "benchmark"},
    )
    with contextlib.redirect_stdout(io.StringIO()):
        train(config, ResumePoint(None, "a benchmark"), _Clock(span))


class _Timed(BaseCallback):
    def __init__(self, span: Span) -> None:
        super().__init__()
        self._span = span

    def _on_rollout_start(self) -> None:
        self._span.at(self.model.num_timesteps)

    def _on_step(self) -> bool:
        return True


def _stock(case: Case, folder: Path, span: Span, *, evaluates: bool) -> None:
    torch.set_num_threads(1)
    vec = _vec(case, case.n_envs, SubprocVecEnv if case.processes else DummyVecEnv)
    vec.seed(SEED)
    model = ALGORITHMS[case.algorithm](case.policy, vec, seed=SEED, device="cpu", **case.hyperparameters)
    callbacks: list[BaseCallback] = [_Timed(span)]
    if evaluates:
        evaluated, each = _vec(case, 1, DummyVecEnv), case.n_envs
        saves = max(adaptive_save_every(case.steps) // each, 1)
        callbacks += [
            CheckpointCallback(saves, str(folder), save_replay_buffer=True),
            EvalCallback(
                evaluated,
                n_eval_episodes=EPISODES,
                eval_freq=max(case.every // each, 1),
                best_model_save_path=str(folder),
                log_path=str(folder),
                verbose=0,
            ),
        ]
    try:
        model.learn(case.steps, callback=callbacks)
    finally:
        vec.close()


def _vec(case: Case, n_envs: int, kind: type[Any]) -> VecEnv:
    options = {"start_method": "forkserver"} if kind is SubprocVecEnv else {}
    vec = kind([case.monitored] * n_envs, **options)
    return VecFrameStack(vec, 4) if case.is_atari else vec


# --- all of them ------------------------------------------------------------------------------------------------------


Found = dict[str, list[tuple[float, float]]]
"""Seconds of a timestep, wall and CPU, by variant, one for each round."""


def measure(case: Case, rounds: int) -> Found:
    """The first round, in which everything is slow once, is not counted."""
    found: Found = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):
        for place in range(len(VARIANTS)):
            variant = VARIANTS[(number + place) % len(VARIANTS)]
            gc.collect()
            with tempfile.TemporaryDirectory(prefix="km_throughput_") as folder:
                seconds = measured(case, variant, Path(folder))
            if number:
                found[variant].append(seconds)
    return found


def run(case: Case, rounds: int) -> Found | str:
    """In a process of its own; the reason where it cannot be measured."""
    command = [sys.executable, __file__, "--part", json.dumps(asdict(case)), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return dict(json.loads(done.stdout.splitlines()[-1]))


COLUMNS = {
    "ours / bare": ("ours", "bare"),
    f"ours, a save every {OFTEN} / bare": ("ours/100", "bare"),
    "ours with evaluations / bare": ("ours+eval", "bare"),
    "stock with both callbacks / bare": ("stock+eval", "bare"),
    "ours / stock, with evaluations": ("ours+eval", "stock+eval"),
}


def row(case: Case, found: Found | str) -> str:
    if isinstance(found, str):
        return f"| {case.label} | not measured: {found} |{' |' * len(COLUMNS)}"
    speeds = " / ".join(f"{1 / median(each[kind] for each in found['bare']):,.0f}" for kind in (0, 1))
    ratios = [" / ".join(f"{_ratio(found, *pair, kind):.2f}" for kind in (0, 1)) for pair in COLUMNS.values()]
    return f"| {case.label} | {speeds} | {' | '.join(ratios)} |"


def _ratio(found: Found, one: str, other: str, kind: int) -> float:
    """The speed of `one` by that of `other`."""
    pairs = zip(found[one], found[other], strict=True)
    return median(by[kind] / of[kind] for of, by in pairs)


def text(rows: list[str], rounds: int, command: str, seconds: float) -> list[str]:
    here = determinism.fingerprint()
    versions = ", ".join(f"{name} {here[name]}" for name in ("stable_baselines3", "torch", "numpy", "gymnasium"))
    how = (
        f"`{command}` at commit {commit()}: {rounds} rounds, medians, wall / CPU; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the end; {seconds / 60:.0f} min in all. ({versions}.)"
    )
    head = [f"| training | bare, steps/s | {' | '.join(COLUMNS)} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    return [how, "", *head, *rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small cases; nothing is written")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cases whose name has one of these words")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/robustness_data.md")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measure(Case(**json.loads(options.part[0])), int(options.part[1]))))
        return 0
    started, rows = time.monotonic(), []
    for case in quick_cases() if options.quick else cases():
        if not options.only or any(word in case.label for word in options.only):
            rows.append(row(case, run(case, options.rounds)))
            print(rows[-1], file=sys.stderr, flush=True)
    command = " ".join(["python", "scripts/benchmarks/throughput.py", *sys.argv[1:]])
    lines = text(rows, options.rounds, command, time.monotonic() - started)
    print(*lines, sep="\n")
    if options.write and not options.quick:
        replace_section("throughput", "## Speed beside Stable-Baselines3", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
