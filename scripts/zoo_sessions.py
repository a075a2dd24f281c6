#!/usr/bin/env python3
"""One configuration of RL Baselines3 Zoo for each algorithm, over three sessions, and what stock reaches with it.

    pip install 'kaggle-manager[train,zoo]'
    python scripts/zoo_sessions.py                    # all of them, half an hour; prints the table
    python scripts/zoo_sessions.py --write            # and puts it into docs/zoo.md
    python scripts/zoo_sessions.py --only ppo her     # some of them
    python scripts/zoo_sessions.py --of hopper ppo Hopper-v4 --project docs/gallery    # a finished run: its best model
    python scripts/zoo_sessions.py --of arm --project docs/gallery    # the same of a section that is not from the Zoo

Each is written by `km init --zoo`, made short by a scenario that changes what `CASES` says, and run by `km run --demo`,
which trains it on the local Kaggle over three sessions. Then a process that cannot import this program loads the final
model, and plays the best model with the `vecnormalize.pkl` beside it, by Stable-Baselines3 and sb3-contrib alone, in
environments made by the Zoo's own `create_test_env`. Ends with 1 when a run does not finish, a model does not load, or
its reported score is not reached.

The reported score is the mean of ten episodes at the step of the best model; its interval is Student's, of 95 %. It is
reached when the mean of stock's episodes is inside or above. The best model was chosen for that score, among several
evaluations, so that it is too high by a little on average.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/zoo.md"
BEGINS, ENDS = "<!-- made by scripts/zoo_sessions.py -->", "<!-- end of sessions -->"
SESSIONS, EVALUATIONS, SEED = 3, 3, 2_026
STOCK_EPISODES, OF_A_RUN = 30, 50
# Student's t, 97.5 %, of 1 to 9 degrees of freedom (any table of it).
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Case:
    """A training. `short`: what its short scenario changes in the Zoo's hyperparameters."""

    algorithm: str
    zoo: str
    environment: str
    timesteps: int
    short: Mapping[str, Any] = field(default_factory=dict)

    @property
    def created(self) -> list[str]:
        """The options of `km init`."""
        if self.zoo == "maskable_ppo":
            return ["--env", self.environment, "--algo", self.algorithm]
        file = ["--zoo-file", "own.yml"] if self.zoo == "her" else []
        return ["--zoo", "tqc" if self.zoo == "her" else self.zoo, self.environment, *file]


SOON = {"learning_starts": 200}
CASES = [
    Case("A2C", "a2c", "LunarLander-v3", 6_000),
    Case("ARS", "ars", "Swimmer-v4", 12_000),
    Case("CrossQ", "crossq", "Pendulum-v1", 1_500),
    Case("DDPG", "ddpg", "MountainCarContinuous-v0", 1_500),
    Case("DQN", "dqn", "BreakoutNoFrameskip-v4", 3_000, {"learning_starts": 500, "buffer_size": 3_000}),
    Case("PPO", "ppo", "MiniGrid-Empty-Random-5x5-v0", 12_288),
    Case("QRDQN", "qrdqn", "CartPole-v1", 6_000),
    Case("RecurrentPPO", "ppo_lstm", "PendulumNoVel-v1", 12_288),
    Case("SAC", "sac", "MountainCarContinuous-v0", 3_000),
    Case("TD3", "td3", "Hopper-v4", 1_500, SOON),
    Case("TQC", "tqc", "BipedalWalker-v3", 1_200, SOON),
    Case("TRPO", "trpo", "Acrobot-v1", 12_288),
    Case("TQC, HER", "her", "own:Reach-v0", 1_500, SOON),
    Case("MaskablePPO", "maskable_ppo", "own:Masked", 12_288),
]

OWN = '''"""Environments in place of what the Zoo has no installable one for: goals, and masks."""

import gymnasium as gym
import numpy as np


class Reach(gym.Env):
    """A point in a square, which is to come close to a goal within 50 steps."""

    def __init__(self, render_mode=None):
        box = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.observation_space = gym.spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box})
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.place = self.goal = np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        return self._seen(), {}

    def step(self, action):
        self.place = np.clip(self.place + 0.1 * action, -2.0, 2.0).astype(np.float32)
        return self._seen(), float(self.compute_reward(self.place, self.goal, {})), False, False, {}

    def compute_reward(self, achieved, desired, info):
        return -(np.linalg.norm(achieved - desired, axis=-1) > 0.1).astype(np.float32)

    def _seen(self):
        return {
            "observation": self.place.copy(), "achieved_goal": self.place.copy(), "desired_goal": self.goal.copy()
        }


class Masked(gym.Env):
    """Twenty times one of eight actions, of which four are allowed; the highest allowed one pays."""

    observation_space = gym.spaces.MultiBinary(8)
    action_space = gym.spaces.Discrete(8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 20
        return self._deal(), {}

    def step(self, action):
        assert self.allowed[action], "an action that was not allowed"
        reward, self.left = float(action == np.flatnonzero(self.allowed)[-1]), self.left - 1
        return self._deal(), reward, self.left == 0, False, {}

    def action_masks(self):
        return self.allowed.astype(bool)

    def _deal(self):
        self.allowed = np.zeros(8, np.int8)
        self.allowed[self.np_random.choice(8, 4, replace=False)] = 1
        return self.allowed.copy()


if "Reach-v0" not in gym.registry:
    gym.register("Reach-v0", entry_point="own:Reach", max_episode_steps=50)
'''


# --- stock Stable-Baselines3, in a process of its own -----------------------------------------------------------------


def stock(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Load the models by stock classes; the mean return of the best one. Nothing of this program can be imported here.

    Args:
        asked: `algorithm`, `environment`, `environment_kwargs`, `project` (where its module may be), `entry` (of the
            Zoo's file), `best` and `final` (models), `deterministic`, `episodes`.
    """
    sys.modules["kaggle_manager"] = None  # type: ignore[assignment] # importing it is an ImportError
    sys.path.insert(0, asked["project"])
    import gymnasium as gym
    import rl_zoo3.import_envs  # noqa: F401 - registers
    import sb3_contrib
    import stable_baselines3
    import torch
    from rl_zoo3.utils import create_test_env
    from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import unwrap_vec_normalize

    torch.set_num_threads(1)
    name = asked["algorithm"]
    kind = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    module, _, id = asked["environment"].rpartition(":")
    if module:
        __import__(module)
    if id not in gym.registry:  # a class: registered under its name
        gym.register(id, entry_point=asked["environment"])

    def environment(model: Path) -> Any:
        """With the statistics beside a model; the Zoo's function takes keys out of what it is given."""
        entry = {**asked["entry"], "normalize": bool(asked["entry"].get("normalize")), "normalize_kwargs": {}}
        kwargs = asked["environment_kwargs"]
        return create_test_env(
            id, stats_path=str(model.parent), should_render=False, hyperparams=entry, env_kwargs=kwargs
        )

    best, final = Path(asked["best"]), Path(asked["final"])
    vec = environment(final)
    kind.load(final, env=vec, device="cpu")
    vec.close()
    vec = environment(best)
    model = kind.load(best, env=vec, device="cpu")
    model.set_random_seed(SEED)  # loading has put back that of the training
    play = evaluate_masked if name == "MaskablePPO" else evaluate_policy
    options = {"deterministic": asked["deterministic"], "return_episode_rewards": True}
    returns, _ = play(model, model.get_env(), asked["episodes"], **options)
    loaded = type(model).__module__.partition(".")[0]
    return {"returns": returns, "normalised": unwrap_vec_normalize(vec) is not None, "loaded_by": loaded}


# --- one training -----------------------------------------------------------------------------------------------------


def km(folder: Path, *words: object) -> str:
    """What a command of this program prints; its error is an error."""
    command = [sys.executable, "-m", "kaggle_manager.cli", *map(str, words)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def trained(case: Case, folder: Path) -> dict[str, Any]:
    """The JSON report of its run, and the seconds that init and run took; `folder` is an empty project."""
    (folder / "pyproject.toml").write_text("[tool.kaggle-manager]\n", encoding="utf-8")
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    if case.zoo == "her":
        (folder / "own.yml").write_text(
            json.dumps({"Reach-v0": entry(case.zoo, case.environment)}), encoding="utf-8"
        )  # JSON is YAML
    began = time.monotonic()
    km(folder, "init", case.zoo, *case.created)
    section = folder / "sections" / case.zoo / "section.toml"
    with section.open("a", encoding="utf-8") as file:
        file.write(short_scenario(case))
    try:
        document = dict(json.loads(km(folder, "run", case.zoo, "--demo", "--json")))
    finally:
        km(folder, "local-kaggle", "stop", "--root", folder / ".kaggle_manager/demo/local_kaggle")
    document["wall_s"] = time.monotonic() - began
    return document


def short_scenario(case: Case) -> str:
    """What is added to the section: the same training, shorter, in three sessions."""
    changed = "".join(f"{name} = {value}\n" for name, value in case.short.items())
    every = case.timesteps // EVALUATIONS
    return (
        f'\n[scenarios.short]\nextends = "{case.zoo}"\ntimesteps = {case.timesteps}\nmodels = "data/models_short"\n'
        f'quick.models = "data/models_short_quick"\nevaluation.every = {every}\n'
        f"\n[scenarios.short.hyperparameters]\n{changed}"
        f'\n[demo]\nscenario = "short"\ntimesteps = {case.timesteps}\nsessions = {SESSIONS}\n'
    )


def entry(zoo: str, environment: str) -> dict[str, Any]:
    """What the Zoo's files say for an environment; that of FetchReach for `Reach-v0`, nothing for masks."""
    import rl_zoo3
    import yaml

    if zoo == "maskable_ppo":
        return {}
    file, name = ("tqc", "FetchReach-v1") if zoo == "her" else (zoo, environment)
    path = Path(str(rl_zoo3.__file__)).parent / f"hyperparams/{file}.yml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(entries.get(name) or entries["atari"])


# --- what it reached --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """Returns of the episodes that the best model was chosen by, and of those that stock played with it."""

    reported: list[float]
    stock: list[float]
    loaded_by: str
    normalised: bool

    @property
    def mean(self) -> float:
        return float(np.mean(self.reported))

    @property
    def half(self) -> float:
        """Half of the reported score's interval."""
        count = len(self.reported)
        if count == 1:  # every episode is the same, so one was counted
            return 0.0
        return STUDENT[min(count, 10) - 2] * float(np.std(self.reported, ddof=1)) / count**0.5

    @property
    def good(self) -> bool:
        return float(np.mean(self.stock)) >= self.mean - self.half - 1e-6

    def __str__(self) -> str:
        digits = 1 if max(abs(self.mean), self.half) >= 10 else 3
        reported, played = f"{self.mean:,.{digits}f} ± {self.half:,.{digits}f}", f"{np.mean(self.stock):,.{digits}f}"
        return f"{reported} | {played} | {'yes' if self.good else '**no**'}"


def reached(project: Path, section: str, document: Mapping[str, Any], zoo: Mapping[str, Any], episodes: int) -> Reached:
    """Of a run that is finished.

    Args:
        document: its report, as `km run --json` prints it.
        zoo: the entry of the Zoo's files that it was made from.
    """
    said = tomllib.loads((project / "sections" / section / "section.toml").read_text(encoding="utf-8"))
    scenario = {**said["scenarios"][section], **said["scenarios"][document["scenario"]]}
    evaluation = said["scenarios"][section].get("evaluation", {})
    kwargs = dict(scenario.get("environment_kwargs", {}))
    tree = Path(document["tree"])
    asked = {
        "algorithm": scenario["algorithm"],
        "environment": kwargs.pop("id", scenario["environment"]),
        "environment_kwargs": kwargs,
        "project": str(project),
        "entry": zoo,
        "best": str(tree / "best_model/best_model.zip"),
        "final": str(tree / f"{document['scenario']}_final.zip"),
        "deterministic": evaluation.get("deterministic", True),
        "episodes": episodes,
    }
    command = [sys.executable, "-P", __file__, "--stock", json.dumps(asked)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"stock does not load or play it:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    with np.load(tree / "history/evaluations.npz") as curve:
        returns = curve["results"][list(curve["timesteps"]).index(document["best_step"])]
    counted = [float(each) for each in returns if not np.isnan(each)]
    if abs(float(np.mean(counted)) - document["best_score"]) > 1e-6 * max(1.0, abs(document["best_score"])):
        raise RuntimeError(f"the curve has {np.mean(counted)} where the run reports {document['best_score']}")
    return Reached(counted, found["returns"], found["loaded_by"], found["normalised"])


def row(case: Case, folder: Path) -> str:
    """A line of the table.

    Raises:
        RuntimeError: a command ended with an error, or stock did not load a model.
    """
    document = trained(case, folder)
    if document["state"] != "finished":
        raise RuntimeError(f"the run is {document['state']}: {document['why']}")
    sessions = [each["outcome"] for each in document["sessions"]]
    if len(sessions) != SESSIONS:
        raise RuntimeError(f"{len(sessions)} sessions: {', '.join(sessions)}")
    found = reached(folder, case.zoo, document, entry(case.zoo, case.environment), STOCK_EPISODES)
    by = found.loaded_by + (", VecNormalize.load" if found.normalised else "")
    cells = [case.algorithm, case.environment, len(sessions), f"{document['step']:,}", f"{document['wall_s']:.0f}", by]
    return f"| {' | '.join(map(str, cells))} | {found} |"


HEAD = [
    "| algorithm | environment | sessions | timesteps | wall time, s | models load by | reported | stock | reached |",
    "|---|---|---|---|---|---|---|---|---|",
]


def text(rows: list[str], command: str) -> str:
    versions = []
    for name in ("rl_zoo3", "stable_baselines3", "sb3_contrib", "gymnasium"):
        versions.append(f"{name} {__import__(name).__version__}")
    how = (
        f"`{command}`, the program at commit {commit()}. *reported*: mean return of the best model in its evaluation, "
        f"and the 95 % interval of it; *stock*: mean of {STOCK_EPISODES} other episodes. ({', '.join(versions)}.)"
    )
    return "\n".join([*HEAD, *rows, "", how])


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGINS)
    _, after = rest.split(ENDS)
    PAGE.write_text(f"{before}{BEGINS}\n{text}\n{ENDS}{after}", encoding="utf-8")


def shown_of(section: str, zoo: Mapping[str, Any], project: Path, workdir: Path | None) -> int:
    """What stock reaches with the best model of a run that is there; 0 when that is its reported score.

    Args:
        zoo: the entry of the Zoo's files that the section was made from; empty for another section.
    """
    place = ["--workdir", workdir] if workdir else []
    document = json.loads(km(project, "status", section, *place, "--json"))
    found = reached(project, section, document, zoo, OF_A_RUN)
    print("| best model at step | reported | stock | reached |", "|---|---|---|---|", sep="\n")
    print(f"| {document['best_step']:,} | {found} |")
    return 0 if found.good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], choices=[case.zoo for case in CASES], metavar="NAME")
    parser.add_argument("--folder", type=Path, help="keep the projects there; a row that is there is not made again")
    parser.add_argument("--write", action="store_true", help="put the table into docs/zoo.md")
    parser.add_argument(
        "--of", nargs="+", metavar="NAME", help="a section with a finished run, and the ALGO and ENV of its Zoo entry"
    )
    parser.add_argument("--project", type=Path, default=Path(), help="folder of the project of --of")
    parser.add_argument("--workdir", type=Path, help="of the run of --of")
    parser.add_argument("--stock", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stock:
        print(json.dumps(stock(json.loads(options.stock))))
        return 0
    if options.of:
        section, *named = options.of
        if len(named) not in (0, 2):
            parser.error("--of takes SECTION, or SECTION ALGO ENV")
        zoo = entry(*named) if named else {}
        return shown_of(section, zoo, options.project.absolute(), options.workdir and options.workdir.absolute())
    rows, failed = [], False
    with tempfile.TemporaryDirectory(prefix="zoo_sessions_") as temporary:
        for case in CASES:
            if options.only and case.zoo not in options.only:
                continue
            folder = (options.folder or Path(temporary)).absolute() / case.zoo
            kept = folder / "row.txt"
            try:
                if not kept.exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(parents=True)
                    kept.write_text(row(case, folder), encoding="utf-8")
                rows.append(kept.read_text(encoding="utf-8"))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                rows.append(f"| {case.algorithm} | {case.environment} | **failed** | | | | | | |")
            failed = failed or "**" in rows[-1]
            print(rows[-1], file=sys.stderr, flush=True)
    shown = text(rows, " ".join(["python", "scripts/zoo_sessions.py", *sys.argv[1:]]))
    print(shown)
    if options.write:
        write(shown)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
