"""One training over jobs of a local Slurm that are killed: this program, RL-Zoo and stock Stable-Baselines3.

    python scripts/benchmarks/slurm_comparison.py                      the table, some 15 minutes
    python scripts/benchmarks/slurm_comparison.py --write              and into docs/slurm.md

Needs rl_zoo3. A DQN on CartPole, with one seed, one set of hyperparameters and a save every so many steps, is trained
to a target by each. Of four jobs the first three die by SIGKILL, all their processes at once, each halfway between two
saves, as a callback counts that all of them take. Ours is `km run`; the others are four jobs submitted at once, each of
which waits for the one before it and continues from the newest save. Each is trained in one job as well, which nobody
kills.

    RL-Zoo `-i`             as its documentation has it, with `--save-freq` and `--save-replay-buffer`
    ... a buffer each save  its replay buffer saved with each model by a callback, and put where `-i` looks for it
    stock                   `CheckpointCallback(save_replay_buffer=True)`, `load`, `load_replay_buffer`, `learn`
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from cart_project import make_cart  # noqa: E402
from kept_section import commit, replace_section  # noqa: E402
from loopback_slurm import LoopbackSlurm, why_not  # noqa: E402

HANGS_S = 3600.0
HYPERPARAMETERS = {
    "learning_rate": 0.0005,
    "buffer_size": 10_000,
    "learning_starts": 100,
    "batch_size": 64,
    "train_freq": 4,
    "gradient_steps": 4,
    "target_update_interval": 100,
    "exploration_fraction": 0.2,
}
NETWORK = [64, 64]
STEPS = '''
"""One byte for each step that a job trains, in a file that has the job's number."""
import os
from stable_baselines3.common.callbacks import BaseCallback

class Steps(BaseCallback):
    def __init__(self, folder):
        super().__init__()
        job = os.environ.get("SLURM_JOB_ID")
        self.file = os.open(f"{folder}/{job}.steps" if job else os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _on_step(self):
        os.write(self.file, b".")
        return True
'''
OUR_SCENARIO = f"""
quick.timesteps = 64
quick.hyperparameters.learning_starts = 8
evaluation.every = 1_000_000
callbacks = {{{{ "steps:Steps" = {{{{ folder = "{{folder}}" }}}} }}}}

[scenarios.cart.hyperparameters]
policy_kwargs = {{{{ net_arch = {NETWORK} }}}}
{{hyperparameters}}
"""
ZOO_HYPERPARAMETERS = f"""
import os
saving = {{"save_freq": EVERY, "save_path": "saves/" + os.environ["SLURM_JOB_ID"], "save_replay_buffer": True}}
callbacks = [{{"steps.Steps": {{"folder": "."}}}}]
if BUFFER:
    callbacks.append({{"stable_baselines3.common.callbacks.CheckpointCallback": saving}})
policy = {{"n_timesteps": 0, "policy": "MlpPolicy", "policy_kwargs": {{"net_arch": {NETWORK}}}}}
hyperparams = {{"CartPole-v1": {{**policy, **{HYPERPARAMETERS}, "callback": callbacks}}}}
"""
# With `-i`, `-n` is how many more steps, and the names of the saves count from 0 again: one folder for each job.
ZOO = """#!/bin/bash
newest= kept=0
for folder in $(ls -d $1 2>/dev/null | sort -V); do
    save=$(ls $folder/rl_model_*_steps.zip 2>/dev/null | sort -V | tail -1)
    [ "$save" ] || continue
    newest=$save steps=${save##*rl_model_}
    kept=$((kept + ${steps%_steps.zip}))
done
buffer=${newest/rl_model_/rl_model_replay_buffer_} buffer=${buffer%.zip}.pkl
[ ! -e "$buffer" ] || cp "$buffer" "$(dirname "$newest")/replay_buffer.pkl"
exec "$2" -u -m rl_zoo3.train --algo dqn --env CartPole-v1 --seed 1 --conf-file zoo_hyperparameters.py \\
    -n $(($3 - kept)) --save-freq "$4" --save-replay-buffer ${newest:+-i "$newest"} \\
    --eval-freq -1 --num-threads 1 --device cpu
"""
STOCK = f"""
import glob, sys
import gymnasium, torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CheckpointCallback
from steps import Steps

target, every = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
env = gymnasium.make("CartPole-v1")
saves = glob.glob("saves/rl_model_[0-9]*_steps.zip")
if saves:
    newest = max(saves, key=lambda name: int(name.split("_")[-2]))
    model = DQN.load(newest, env=env, device="cpu")
    model.load_replay_buffer(newest.replace("model_", "model_replay_buffer_").replace(".zip", ".pkl"))
else:
    network = {{"net_arch": {NETWORK}}}
    model = DQN("MlpPolicy", env, seed=1, device="cpu", policy_kwargs=network, **{HYPERPARAMETERS})
saving = CheckpointCallback(every, "saves", save_replay_buffer=True)
model.learn(target - model.num_timesteps, callback=[Steps("."), saving], reset_num_timesteps=False)
model.save("final.zip")
"""
TITLE = """## Next to RL-Zoo and stock Stable-Baselines3

One DQN on CartPole, trained by each over four jobs of a local Slurm, of which three are killed halfway between two
saves; the [benchmark](../scripts/benchmarks/slurm_comparison.py) says how. RL-Zoo writes its replay buffer only at the
end of a training: a killed one has none unless a callback saves it. The hyperparameters are one of three sets that
were tried, the one with which stock's uninterrupted training came to the best return. One seed: a return is an example,
and no measure of a resume. What else the machine does changes neither bits nor returns; it does change the seconds.
Those of `km run` include its preflight and an evaluation."""


@dataclass
class Bench:
    """Where and what all of them train."""

    slurm: LoopbackSlurm
    target: int
    every: int

    def sbatch(self, folder: Path, jobs: int, *words: str) -> None:
        """So many jobs, one after the other, however the one before it ended."""
        options = ["--dependency=singleton", f"--job-name={folder.parent.name}_{folder.name}", "--no-requeue"]
        for _ in range(jobs):
            command = ["sbatch", *options, "--output=job_%j.txt", *words]
            subprocess.run(command, cwd=folder, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    @property
    def environment(self) -> dict[str, str]:
        return {**self.slurm.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def km(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "kaggle_manager.cli", *words]


def ours(bench: Bench, folder: Path, jobs: int) -> subprocess.Popen[bytes]:
    hyperparameters = "\n".join(f"{name} = {json.dumps(value)}" for name, value in HYPERPARAMETERS.items())
    scenario = OUR_SCENARIO.format(folder=folder, hyperparameters=hyperparameters)
    include = 'include = ["steps.py"]'
    make_cart(folder, target=bench.target, every=bench.every, kernel=include, scenario=scenario)
    with (folder / "job_said.txt").open("wb") as out:
        return subprocess.Popen(
            bench.km("run", "cart", "--platform", "slurm"),
            cwd=folder,
            env=bench.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def our_final(bench: Bench, folder: Path) -> Path:
    words = bench.km("checkpoints", "export-sb3", "cart", str(bench.target), "exported")
    subprocess.run(words, cwd=folder, env=bench.environment, check=True, stdout=subprocess.DEVNULL)
    (model,) = (folder / "exported").glob("*_steps.zip")
    return model


def zoo(bench: Bench, folder: Path, jobs: int, buffer: bool = False) -> None:
    text = f"EVERY, BUFFER = {bench.every}, {buffer}\n{ZOO_HYPERPARAMETERS}"
    (folder / "zoo_hyperparameters.py").write_text(text)
    (folder / "zoo.sh").write_text(ZOO)
    saves = "saves/*" if buffer else "logs/dqn/CartPole-v1_*"
    bench.sbatch(folder, jobs, "zoo.sh", saves, sys.executable, str(bench.target), str(bench.every))


def zoo_final(bench: Bench, folder: Path) -> Path:
    (model,) = (folder / "logs/dqn").glob("*/CartPole-v1.zip")
    return model


def stock(bench: Bench, folder: Path, jobs: int) -> None:
    (folder / "train.py").write_text(STOCK)
    bench.sbatch(folder, jobs, f"--wrap=exec {sys.executable} -u train.py {bench.target} {bench.every}")


@dataclass
class Tool:
    """How a training of so many jobs is begun in a folder, and which file its final model is."""

    name: str
    begin: Callable[[Bench, Path, int], subprocess.Popen[bytes] | None]
    final: Callable[[Bench, Path], Path]


TOOLS = {
    "ours": Tool("`km run --platform slurm`", ours, our_final),
    "zoo": Tool("RL-Zoo `-i`", zoo, zoo_final),
    "zoo_buffer": Tool("RL-Zoo `-i`, a buffer with each save", lambda b, f, jobs: zoo(b, f, jobs, True), zoo_final),
    "stock": Tool("stock, `sbatch` chain", stock, lambda bench, folder: folder / "final.zip"),
}


@dataclass
class Trained:
    """What came of one training."""

    steps: int
    wall_s: float
    final: Path

    def mean_return(self) -> float:
        """Of 20 greedy episodes, the same for everyone."""
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.evaluation import evaluate_policy

        model = DQN.load(self.final, device="cpu")
        mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", seed=1000), 20, deterministic=True)
        return float(mean)  # type: ignore[arg-type]

    def has_the_bits_of(self, other: Trained) -> bool:
        import torch
        from stable_baselines3 import DQN

        mine, its = (DQN.load(each.final, device="cpu").policy.state_dict() for each in (self, other))
        return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def trained(bench: Bench, tool: Tool, folder: Path, kills: Sequence[int]) -> Trained:
    """One training to the target; a job is killed when it has trained so many steps."""
    folder.mkdir(parents=True)
    (folder / "steps.py").write_text(STEPS)
    began = time.monotonic()
    process = tool.begin(bench, folder, len(kills) + 1)

    def goes_on() -> bool:
        if time.monotonic() > began + HANGS_S:
            raise TimeoutError(f"{folder} has not come to its end within {HANGS_S:.0f} s")
        return bool(bench.slurm.jobs()) if process is None else process.poll() is None

    killed: set[str] = set()
    for steps in kills:
        while not (passed := {path.stem for path in folder.glob("*.steps") if path.stat().st_size > steps} - killed):
            if not goes_on():
                raise RuntimeError("\n".join(path.read_text()[-3000:] for path in folder.glob("job_*.txt")))
            time.sleep(0.02)
        (job,) = passed
        bench.slurm.kill(job)
        killed.add(job)
    while goes_on():
        time.sleep(0.2)
    wall_s = time.monotonic() - began
    return Trained(sum(path.stat().st_size for path in folder.glob("*.steps")), wall_s, tool.final(bench, folder))


def row(bench: Bench, tool: Tool, folder: Path) -> str:
    half, third = bench.every // 2, bench.target // 4 // bench.every * bench.every
    # After the first one a job begins at the save before the kill: the same steps of the whole are passed.
    chain = trained(bench, tool, folder / "chain", [third - half, third + half, third + half])
    whole = trained(bench, tool, folder / "whole", [])
    wall, returns = ([chain.wall_s, whole.wall_s], [chain.mean_return(), whole.mean_return()])
    cells = [tool.name, f"{chain.steps:,}", f"{chain.steps - bench.target:,}", *(f"{each:.0f}" for each in wall)]
    cells += [*(f"{each:.1f}" for each in returns), "yes" if chain.has_the_bits_of(whole) else "no"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=int, default=12_000, help="steps")
    parser.add_argument("--every", type=int, default=1000, help="steps from save to save")
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--write", action="store_true", help="keep the table in docs/slurm.md")
    options = parser.parse_args()
    if why := why_not() or ("" if importlib.util.find_spec("rl_zoo3") else "rl_zoo3 is not installed"):
        sys.exit(why)
    lines = [
        "| | steps trained | of them again | seconds | in one job | mean return | in one job | same bits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    folder, slurm = Path(tempfile.mkdtemp(prefix="km_comparison_")), LoopbackSlurm()
    try:
        slurm.start()
        for name in options.only:
            lines.append(row(Bench(slurm, options.target, options.every), TOOLS[name], folder / name))
            print(lines[-1], flush=True)
        slurm_version = slurm.ask("sbatch", "--version").split()[-1]
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if options.write:
        command = f"python scripts/benchmarks/slurm_comparison.py{''.join(f' {word}' for word in sys.argv[1:])}"
        packages = ", ".join(f"{name} {version(name)}" for name in ("stable-baselines3", "rl_zoo3", "torch"))
        what = f"`{command}` at {commit()}; Slurm {slurm_version}, {packages}."
        replace_section("slurm_comparison", TITLE, [what, "", *lines], ROOT / "docs/slurm.md")


if __name__ == "__main__":
    main()
