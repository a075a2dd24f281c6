"""Checks of what a section trains, on this machine, in seconds, before any session is spent on it.

    python -m kaggle_manager.trainer.sb3.preflight SECTION [--scenario NAME ...] [--json]

They hold for every Stable-Baselines3 training: the environment can be made, resets and steps, the algorithm takes it,
and the trainer as it is saves, survives a kill, resumes and learns. How varied the rewards of random actions are is
told, not judged. A section with promises of its own has a `preflight` module beside its section.toml, which builds on
these. It trains a few steps in a folder of its own, which it removes, and touches no training tree.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np

from kaggle_manager.accelerators import WORTHWHILE_GAIN
from kaggle_manager.checkpoints.archive import MAX_TREE_BYTES
from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import algorithms, env_state, sizes
from kaggle_manager.trainer.sb3.local_training import open_project, train_here, tree_of
from kaggle_manager.trainer.sb3.network_share import measure_share

STEPS = 200
"""Random actions tried: enough to see rewards differ, little enough for a slow simulator."""

SLOWEST_LOOK_S = 10.0
FIRST_SAVE_S = 120.0
TRAINING_S = 900.0
"""The resumed quick training may take so long: one whose evaluation plays an endless episode takes for ever."""

ENDLESS_AFTER = 50_000
"""Random actions after which an episode that is not over, and has no time limit, is called endless."""

SEED = 101


@dataclass(frozen=True)
class CheckResult:
    """One promise: kept or not, and what was seen or what to look at."""

    name: str
    ok: bool
    detail: str


def preflight(project: Path, section: Section, scenarios: Sequence[str] = ()) -> list[CheckResult]:
    """Run every check for the named scenarios, or for all.

    Raises:
        ConfigError: the section has no such scenario.
    """
    results = []
    for name in scenarios or section.scenarios:
        scenario = section.scenario(name)
        found = check_environment(scenario.for_quick())
        if all(result.ok for result in found):
            found += [check_sizes(scenario), *check_training(project, section, name), *check_accelerator(section, name)]
        if warning := scenario.overshoot(scenario.timesteps):  # not a failure: it trains, only further than asked
            found.append(CheckResult("a rollout fits the target", True, f"WARNING: {warning}"))
        results += [CheckResult(f"{name}: {result.name}", result.ok, result.detail) for result in found]
    return results


def check_environment(scenario: ScenarioConfig) -> list[CheckResult]:
    """What can be seen of an environment without training in it. Whatever its code raises is a result."""
    factory = env_state.EntryPoint(scenario.environment, dict(scenario.environment_kwargs))
    try:
        env = factory()
    except (ConfigError, gym.error.UnregisteredEnv, ModuleNotFoundError) as error:
        return [CheckResult("environment can be imported", False, _told(error))]
    except Exception as error:
        return [CheckResult("environment can be made", False, _told(error))]
    with contextlib.closing(env):
        try:
            seen, problem, has_ended = _play(env)
        except Exception as error:
            return [CheckResult("resets and steps", False, _told(error))]
        played = CheckResult("resets and steps", not problem, problem or seen)
        if problem:
            return [played]
        try:
            ends = _check_episode(env, has_ended)
        except Exception as error:
            return [CheckResult("an episode ends", False, _told(error))]
    return [played, ends, _check_algorithm(scenario, factory)]


def _check_episode(env: gym.Env[Any, Any], has_ended: bool) -> CheckResult:
    """Evaluations, and with `train_freq` in episodes the saves as well, wait for the end of an episode."""
    name = "an episode ends"
    if has_ended:
        return CheckResult(name, True, f"within {STEPS} random actions")
    if limit := _time_limit(env):
        return CheckResult(name, True, f"after {limit:,} steps at most")
    env.reset(seed=SEED)
    deadline = time.monotonic() + SLOWEST_LOOK_S
    for step in range(1, ENDLESS_AFTER + 1):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            return CheckResult(name, True, f"one of random actions did after {step:,} steps")
        if time.monotonic() >= deadline:
            return CheckResult(name, True, f"WARNING: none did in {step:,} steps; is there an end? {_WANTS_AN_END}")
    why = f"none did in {ENDLESS_AFTER:,} random actions, and there is no time limit: {_WANTS_AN_END}"
    return CheckResult(name, False, why)


_WANTS_AN_END = (
    "an evaluation plays whole episodes, and a simulator that cannot be pickled is put back by playing the open one "
    "again; gymnasium.wrappers.TimeLimit(env, max_episode_steps) gives one"
)


def _time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Steps after which a wrapper ends an episode; None where none does."""
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            return layer._max_episode_steps
        layer = layer.env
    return None


def _play(env: gym.Env[Any, Any]) -> tuple[str, str, bool]:
    """What random actions showed, what is wrong with it, or '', and whether an episode ended."""
    env.action_space.seed(SEED)
    observation, _ = env.reset(seed=SEED)
    rewards: list[float] = []
    returns = [0.0]
    deadline = time.monotonic() + SLOWEST_LOOK_S
    while len(rewards) < STEPS and (time.monotonic() < deadline or not rewards):
        if not env.observation_space.contains(observation):
            shape, kind = getattr(observation, "shape", None), getattr(observation, "dtype", type(observation).__name__)
            return "", f"an observation of shape {shape}, {kind}, is not in {env.observation_space}", False
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        if not np.isfinite(float(reward)):
            return "", f"a reward is {reward}", False
        rewards.append(float(reward))
        returns[-1] += float(reward)
        if terminated or truncated:
            observation, _ = env.reset()
            returns.append(0.0)
    distinct = len(set(rewards))
    seen = f"{len(rewards)} random actions, {distinct} distinct rewards"
    if distinct == 1 and len(set(returns[:-1])) < 2:
        # Not a failure: where nothing is won before a goal is reached, chance may never see it.
        seen += f"; every one is {rewards[0]}, and so far no episode was better than another: look at the reward"
    return seen, "", len(returns) > 1


def _check_algorithm(scenario: ScenarioConfig, factory: env_state.EnvFactory) -> CheckResult:
    name = f"{scenario.algorithm} takes the environment"
    try:
        vec = env_state.make_vec_env(factory, "none", SEED)
        with contextlib.closing(vec):
            algorithms.build_model(
                scenario.algorithm, scenario.policy, scenario.hyperparameters, vec, seed=SEED, device="cpu"
            )
            return CheckResult(name, True, f"actions {vec.action_space}")
    except Exception as error:
        return CheckResult(name, False, _told(error))


def check_sizes(scenario: ScenarioConfig) -> CheckResult:
    """The whole training's replay buffer, against what a session has; nothing of it is filled here."""
    name = "fits a session"
    try:
        vec = env_state.make_vec_env(
            env_state.EntryPoint(scenario.environment, dict(scenario.environment_kwargs)), "none", SEED
        )
        with contextlib.closing(vec):
            given, capacity = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
            model = algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=SEED, device="cpu")
    except Exception as error:
        return CheckResult(name, False, _told(error))
    rows, row = min(capacity, scenario.timesteps), sizes.row_bytes(model)
    if found := sizes.too_large_for_memory(model, rows, row, sizes.SESSION_MEMORY_BYTES, "a session on Kaggle"):
        return CheckResult(name, False, found)
    said = f"the replay buffer takes {sizes.gigabytes(rows * row)} of memory" if rows else "it has no replay buffer"
    if rows * row > MAX_TREE_BYTES:
        said += (
            f"; WARNING: a session may leave {sizes.gigabytes(MAX_TREE_BYTES)}: the first save says how much of it the "
            "replay log will take, and the final model goes without the file of its buffer"
        )
    return CheckResult(name, True, said)


def check_training(project: Path, section: Section, name: str) -> list[CheckResult]:
    """The trainer as it is, on the quick variant: killed after its first save, resumed, and learning."""
    target = section.scenario(name).for_quick().timesteps
    with tempfile.TemporaryDirectory(prefix="km_preflight_") as folder:
        base = Path(folder)
        tree = tree_of(project, section, name, base, quick=True)
        command = [sys.executable, "-m", "kaggle_manager.trainer.sb3.train_dqn", "--quick", "--workdir", folder]
        command += ["--section", section.name, "--scenario", name]
        with (base / "log.txt").open("w+", encoding="utf-8") as log:
            with subprocess.Popen(
                command, cwd=project, env=_with_code(), stdout=log, stderr=subprocess.STDOUT
            ) as trainer:
                try:
                    _wait_for_save(trainer, tree.checkpoints)
                finally:
                    trainer.kill()
            log.seek(0)
            said = log.read().strip().splitlines()[-1:]
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                # Further than the first was to go: it may have got there before it was killed.
                outcome = train_here(
                    project, section, name, base=base, clock=SessionClock(TRAINING_S), quick=True, timesteps=2 * target
                )
        except Exception as error:
            return [CheckResult("resumes after a kill", False, f"{_told(error)}; the trainer said: {''.join(said)}")]
    if not outcome.resumed_from:
        look = f"the trainer saved nothing before it ended or {FIRST_SAVE_S:.0f} s were over: {''.join(said)}"
        return [CheckResult("saves", False, look)]
    updates = outcome.counts.get("updates", 0)
    return [
        CheckResult(
            "resumes after a kill",
            2 * target <= (outcome.step or 0),
            f"killed, resumed from step {outcome.resumed_from}, ended at {outcome.step} of {2 * target}",
        ),
        CheckResult(
            "gradient updates are made",
            updates > 0,
            f"{updates} updates" + ("" if updates else ": look at learning_starts and train_freq under `quick`"),
        ),
    ]


def check_accelerator(section: Section, name: str) -> list[CheckResult]:
    """What a GPU can gain at most, where sessions are to have one: said before the first costs quota; no failure."""
    if section.kernel.accelerator is None:
        return []
    what = "what the accelerator can gain"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            seen = measure_share(section.scenario(name))
    except Exception as error:
        return [CheckResult(what, True, f"not known: {_told(error)}")]
    if seen is None:
        return [CheckResult(what, True, "not known: no update came within seconds")]
    said = (
        f"{seen.gain_at_most:.2g} times the speed of this CPU at most: the network takes {seen.share:.0%} of a timestep"
    )
    if seen.gain_at_most < WORTHWHILE_GAIN:
        said = f"WARNING: {said}; without `accelerator` in section.toml it costs none of the weekly quota"
    return [CheckResult(what, True, said)]


def _wait_for_save(trainer: subprocess.Popen[bytes], checkpoints: Path) -> None:
    """Return once a checkpoint was committed, the trainer ended, or the time was over."""
    deadline = time.monotonic() + FIRST_SAVE_S
    while time.monotonic() < deadline and trainer.poll() is None and not any(checkpoints.glob("*.manifest.json")):
        time.sleep(0.01)


def _with_code() -> dict[str, str]:
    """The environment of a process that shall find the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _told(error: Exception) -> str:
    return error.message if isinstance(error, KaggleManagerError) else f"{type(error).__name__}: {error}"


def report(check: Callable[[], list[CheckResult]], *, as_json: bool) -> int:
    """Print the results of `check`; 0 when all hold, 1 when one does not, else the code of what kept it from trying."""
    try:
        with _sigterm_in_order():
            results = check()
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    ok = all(result.ok for result in results)
    if as_json:
        print(json.dumps({"schema": 1, "ok": ok, "checks": [asdict(result) for result in results]}, indent=2))
    else:
        for result in results:
            print(f"{'ok    ' if result.ok else 'FAILED'} {result.name}: {result.detail}")
    return 0 if ok else 1


@contextlib.contextmanager
def _sigterm_in_order() -> Iterator[None]:
    """SIGTERM is a SystemExit inside: the trainer that was started here ends, and its folder is removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a section; see `report`."""
    parser = argparse.ArgumentParser(prog="python -m kaggle_manager.trainer.sb3.preflight", description=__doc__)
    parser.add_argument("section")
    parser.add_argument("--scenario", nargs="+", default=[], help="default: all")
    parser.add_argument("--environment-only", action="store_true", help="without a training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def check() -> list[CheckResult]:
        project, section = open_project(options.section)
        if options.environment_only:
            return check_environment(section.scenario(*options.scenario).for_quick())
        return preflight(project, section, options.scenario)

    return report(check, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
