"""What a checkpoint system is worth: one training under one schedule of kills, saved in four ways.

    python -m validation_ch7.section_7_6_rl_performance.second_study.kept.ablation --jobs 2

Each session is a process that dies by SIGKILL when it has played so many decisions, halfway between two saves.

    none           nothing is saved: every session begins anew
    latest         Stable-Baselines3's `CheckpointCallback`, `load`, `learn`
    latest_buffer  the same with `save_replay_buffer=True` and `load_replay_buffer`
    exact          this program
    whole          this program, never killed

What is finished is kept and not trained again; the final models play held-out traffic, as the declaration says.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import KaggleManagerError, RunError
from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig, Section, load_section
from validation_ch7.section_7_6_rl_performance.second_study.agents import agent
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.episodes import play
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import WAYS, Ablation, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import FOLDER as KEPT
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.second_study.kept.trainings import policy_of
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PATH, PROJECT, train

MODULE = "validation_ch7.section_7_6_rl_performance.second_study.kept.ablation"
KILLED = -signal.SIGKILL
FINAL, PLAYED = "final.zip", "decisions"


def carry_out(kept: Kept, declared: Ablation, declaration_sha256: str, jobs: int = 1) -> None:
    """Train and judge whatever is declared and not kept.

    Args:
        declaration_sha256: of the declaration that it is a part of.

    Raises:
        RunError: a session ended otherwise than by its kill, or at its target.
    """
    todo = [
        (way, seed)
        for seed in declared.training_seeds
        for way in WAYS
        if (kept.ablation(way, seed) or {}).get("declaration") != declaration_sha256
    ]

    def one(what: tuple[str, int]) -> None:
        body = {**_trained(*what, declared), "declaration": declaration_sha256}
        kept.keep_ablation(*what, body)
        print(f"{what[0]}, seed {what[1]}: {body}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(one, todo):
            pass


def _trained(way: str, seed: int, declared: Ablation) -> dict[str, Any]:
    """Train over the sessions of the schedule, and judge the final model, where there is one."""
    with tempfile.TemporaryDirectory(prefix="km_ablation_") as name:
        folder, ended = Path(name), KILLED
        command = [sys.executable, "-m", MODULE, "--session", way, str(seed), name, declared.model_dump_json()]
        played: list[int] = []
        while ended == KILLED and len(played) < declared.sessions:
            (folder / PLAYED).write_bytes(b"")
            process = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
            ended = process.returncode
            played.append((folder / PLAYED).stat().st_size)
            if ended not in (0, KILLED):
                raise RunError(f"A session of the ablation ended with {ended}: {process.stderr.decode()[-2000:]}")
        body: dict[str, Any] = {"way": way, "seed": seed, "sessions": len(played), "decisions": sum(played)}
        if ended == KILLED:
            return {**body, "finished": False}
        _, config = _scenario(declared)
        model = (folder / FINAL).read_bytes()
        whom = agent(config, model)
        traffic = range(declared.traffic.first, declared.traffic.first + declared.traffic.count)
        episodes = list(play(whom, config.environment_kwargs, traffic))
    return {
        **body,
        "finished": True,
        "delays_s": [round(episode.mean_delay_s, 3) for episode in episodes],
        "gridlocked": sum(episode.gridlock_onset_s is not None for episode in episodes),
        "policy_sha256": hashlib.sha256(policy_of(model)).hexdigest(),
    }


def _session(way: str, seed: int, folder: Path, declared: Ablation) -> None:
    """One session of a training, in a process of its own."""
    _count(folder / PLAYED, None if way == "whole" else declared.session_decisions)
    section, config = _scenario(declared)
    if way in ("exact", "whole"):
        train(declared.scenario, base=folder, seed=seed, section=section)
        final = CheckpointStore(TrainingTree(folder / PATH / config.for_seed(seed).models, declared.scenario)).final()
        assert final is not None
        (folder / FINAL).write_bytes(final.read("model"))
    else:
        _stock(way, config, seed, folder)


def _stock(way: str, config: ScenarioConfig, seed: int, folder: Path) -> None:
    """The same training by Stable-Baselines3 alone."""
    from stable_baselines3.common.callbacks import CheckpointCallback
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    from kaggle_manager.trainer.sb3.algorithms import algorithm_class, build_model
    from kaggle_manager.trainer.sb3.determinism import make_deterministic

    make_deterministic("cpu")
    env = DummyVecEnv([lambda: Monitor(SignalEnv(**dict[str, Any](config.environment_kwargs)))])
    saves = folder.glob("saves/rl_model_[0-9]*_steps.zip")
    newest = max(saves, key=lambda file: int(file.stem.split("_")[-2]), default=None)
    if newest is None:
        env.seed(seed)
        model = build_model(config.algorithm, config.policy, config.hyperparameters, env, seed=seed, device="cpu")
    else:
        model = algorithm_class(config.algorithm).load(newest, env=env, device="cpu")
        if way == "latest_buffer":
            buffer = newest.name.replace("model_", "model_replay_buffer_").replace(".zip", ".pkl")
            model.load_replay_buffer(newest.with_name(buffer))  # type: ignore[attr-defined]
    saving = None
    if way != "none":
        assert config.save_every is not None
        saving = CheckpointCallback(config.save_every, f"{folder}/saves", save_replay_buffer=way == "latest_buffer")
    model.learn(config.timesteps - model.num_timesteps, callback=saving, reset_num_timesteps=False)
    model.save(folder / FINAL)
    env.close()


def _scenario(declared: Ablation) -> tuple[Section, ScenarioConfig]:
    """The declared scenario, with the saves of the ablation and an evaluation at its end alone."""
    section = load_section(FOLDER / SECTION_FILE)
    config = section.agent(declared.scenario)
    evaluation = config.evaluation.model_copy(update={"every": declared.timesteps, "episodes": 1})
    config = config.model_copy(
        update={"timesteps": declared.timesteps, "save_every": declared.save_every, "evaluation": evaluation}
    )
    return section.model_copy(update={"scenarios": {**section.scenarios, declared.scenario: config}}), config


def _count(file: Path, most: int | None) -> None:
    """Write a byte for each decision that is trained on here; let this process be killed at the one after `most`."""
    from stable_baselines3.common.base_class import BaseAlgorithm

    after_step, count = BaseAlgorithm._update_info_buffer, os.open(file, os.O_WRONLY | os.O_APPEND)

    def counted(*arguments: Any, **named: Any) -> None:
        if os.fstat(count).st_size == most:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(count, b".")
        after_step(*arguments, **named)

    BaseAlgorithm._update_info_buffer = counted  # type: ignore[method-assign]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time; each needs a core")
    parser.add_argument("--kept", type=Path, default=KEPT, help="what is done is kept in this folder")
    parser.add_argument("--session", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.session:
            way, seed, folder, declared = options.session
            _session(way, int(seed), Path(folder), Ablation.model_validate_json(declared))
        else:
            declaration = read_declaration()
            carry_out(Kept(options.kept), declaration.ablation, declaration.sha256, options.jobs)
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
