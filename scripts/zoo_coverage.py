#!/usr/bin/env python3
"""How much of RL Baselines3 Zoo a section can express: every entry of its files, written, read and built.

    pip install 'kaggle-manager[train,zoo]'
    python scripts/zoo_coverage.py            # prints the table
    python scripts/zoo_coverage.py --write    # and puts it into docs/zoo.md
    python scripts/zoo_coverage.py --algo ars

Each entry becomes a section.toml, which is read, and of which environments and model are made: as many environments as
it says, with wrappers, normalisation and stacked frames, and the model with a replay buffer of one row. An evaluation
of it plays a few steps. Nothing is trained. An environment that is not installed is replaced by one of the same spaces;
`default` is built for CartPole or Pendulum, `atari` for Breakout. `her.yml`, which the Zoo calls unused, is left out.
Ends with 1 when an entry failed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import itertools
import re
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kaggle_manager.sections import zoo_files  # noqa: E402
from kaggle_manager.sections.environment_ids import installed, with_module  # noqa: E402
from kaggle_manager.sections.model import ScenarioConfig  # noqa: E402
from kaggle_manager.sections.new_training import CONTINUOUS_ONLY  # noqa: E402
from kaggle_manager.sections.scaffold import new_section  # noqa: E402
from kaggle_manager.sections.zoo import ALGORITHMS, training_of  # noqa: E402
from kaggle_manager.trainer.sb3 import algorithms  # noqa: E402
from kaggle_manager.trainer.sb3.environments import environments_of  # noqa: E402
from kaggle_manager.trainer.sb3.evaluation import Evaluator  # noqa: E402

PAGE = ROOT / "docs/zoo.md"
BEGINS, ENDS = "<!-- made by scripts/zoo_coverage.py -->", "<!-- end -->"

STEPS = 3
"""Of an evaluation."""
Spaces = tuple[gym.Space[Any], gym.Space[Any]]


# --- environments of the same spaces ----------------------------------------------------------------------------------


def numbers(count: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (count,), np.float32)


def control(observations: int, actions: int) -> Spaces:
    return numbers(observations), gym.spaces.Box(-1.0, 1.0, (actions,), np.float32)


def goal(observations: int, goals: int, actions: int) -> Spaces:
    parts = {"observation": numbers(observations), "achieved_goal": numbers(goals), "desired_goal": numbers(goals)}
    return gym.spaces.Dict(parts), control(1, actions)[1]


# Pattern of an id -> its spaces. Of the A1, Neck and RocketLander environments no package tells the spaces: some of
# their kind stand for them.
SPACES: Mapping[str, Callable[[], Spaces]] = {
    r"HalfCheetahBullet.*": lambda: control(26, 6),
    r"AntBullet.*|Minitaur.*": lambda: control(28, 8),
    r"HopperBullet.*": lambda: control(15, 3),
    r"Walker2DBullet.*": lambda: control(22, 6),
    r"HumanoidBullet.*": lambda: control(44, 17),
    r"ReacherBullet.*": lambda: control(9, 2),
    r"InvertedDoublePendulumBullet.*": lambda: control(9, 1),
    r"InvertedPendulumSwingupBullet.*": lambda: control(5, 1),
    r"InvertedDoublePendulum-v2": lambda: control(11, 1),
    r"InvertedPendulum-v2": lambda: control(4, 1),
    r"Reacher-v2": lambda: control(11, 2),
    r"HumanoidStandup-v2": lambda: control(376, 17),
    r"LunarLanderNoVel-v2": lambda: (numbers(8), gym.spaces.Discrete(4)),
    r"LunarLanderContinuousNoVel-v2": lambda: control(8, 2),
    r"CarRacing-v0": lambda: (gym.spaces.Box(0, 255, (96, 96, 3), np.uint8), control(1, 3)[1]),
    r"donkey-.*": lambda: control(33, 2),  # as its entry has it, images go through an autoencoder
    r"parking-v0": lambda: goal(6, 6, 2),
    r"FetchReach-v1": lambda: goal(10, 3, 4),
    r"Fetch.*": lambda: goal(25, 3, 4),
    r"PandaReach-v1": lambda: goal(6, 3, 3),
    r"Panda(Push|Slide)-v1": lambda: goal(18, 3, 3),
    r"PandaPickAndPlace-v1": lambda: goal(19, 3, 4),
    r"PandaStack-v1": lambda: goal(31, 6, 4),
    r"A1.*": lambda: control(48, 12),
    r"NeckEnvRelative-v2": lambda: control(8, 2),
    r"RocketLander-v0": lambda: control(10, 3),
}


class StandIn(gym.Env[Any, Any]):
    """An environment of the spaces of another; what happens in it is chance."""

    def __init__(self, id: str, **_: Any) -> None:
        name = id.rpartition(":")[2]
        spaces = next((make for pattern, make in SPACES.items() if re.fullmatch(pattern, name)), None)
        if spaces is None:
            raise gym.error.UnregisteredEnv(f"{name} is not installed, and its spaces are not in {__file__}")
        self.observation_space, self.action_space = spaces()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return np.zeros(len(achieved), np.float32)


class AutoencoderWrapper(gym.ObservationWrapper[Any, Any, Any]):
    """In place of a wrapper of `ae`, which no package index has: 32 numbers for an image, and the speed."""

    def __init__(self, env: gym.Env[Any, Any], ae_path: str) -> None:
        super().__init__(env)
        self.observation_space = numbers(33)

    def observation(self, observation: Any) -> Any:
        return np.zeros(33, np.float32)


def stand_in_for_ae() -> None:
    if importlib.util.find_spec("ae") is None:
        for name in ("ae", "ae.wrapper"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["ae.wrapper"].AutoencoderWrapper = AutoencoderWrapper  # type: ignore[attr-defined]


@functools.cache
def lacking(id: str) -> str:
    """Why the environment itself is not here: no package that brings it, or none in that version; "" where it is.

    One that is here and cannot be made is an error of its entry.
    """
    try:
        gym.make(id).close()
    except (ImportError, gym.error.Error) as error:
        return str(error).splitlines()[0]
    return ""


# --- entries ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """One entry: how far it came, and why its environment is not here; "" where it is."""

    algorithm: str
    entry: str
    unsaid: tuple[str, ...] = ()
    read: bool = False
    built: bool = False
    lacks: str = ""
    problem: str = ""


def tried(short: str, name: str, entry: Mapping[str, Any], place: Path) -> Tried:
    """Write, read and build one entry; `place` is an empty folder."""
    found: dict[str, Any] = {"algorithm": short, "entry": name}
    try:
        id = with_module(id_for(short, name))
        training = training_of(ALGORITHMS[short], id, entry, f"{short}.yml, {name}")
        found["unsaid"] = training.unsaid
        section = new_section("entry", place, environment=id, tuned=training).section
        found["read"] = True
        found["lacks"] = lacking(id)
        build(without_environment(section.scenario()) if found["lacks"] else section.scenario())
        found["built"] = True
    except Exception as error:
        found["problem"] = f"{type(error).__name__}: {error}"
    return Tried(**found)


def id_for(short: str, name: str) -> str:
    """The environment an entry is built for."""
    if name == "atari":
        return "BreakoutNoFrameskip-v4"
    if name == "default":
        return "Pendulum-v1" if ALGORITHMS[short] in CONTINUOUS_ONLY else "CartPole-v1"
    return name


class Enough(Exception):
    """An evaluation has played its steps."""


def without_environment(scenario: ScenarioConfig) -> ScenarioConfig:
    return scenario.model_copy(update={"environment": f"{Path(__file__).stem}:{StandIn.__name__}"})


def build(scenario: ScenarioConfig) -> None:
    """Environments and model of a scenario, and the beginning of an evaluation, as a session makes them."""
    given, _ = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
    noise = (scenario.noise.type, scenario.noise.std) if scenario.noise else None
    environments, left = environments_of(scenario), itertools.count(STEPS, -1)

    def each_step() -> None:
        if not next(left):
            raise Enough

    with contextlib.closing(environments.vectorised("none", 0)) as vec, contextlib.suppress(Enough):
        model = algorithms.build_model(
            scenario.algorithm, scenario.policy, given, vec, seed=0, device="cpu", noise=noise
        )
        Evaluator(environments.for_evaluation(), "none", 0, 1, scenario.evaluation.deterministic)(model, each_step)


def all_entries(shorts: Sequence[str]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for short in ALGORITHMS:
        if not shorts or short in shorts:
            for name, entry in zoo_files.read(zoo_files.file_of(short)).items():
                yield short, name, entry


# --- what is shown ----------------------------------------------------------------------------------------------------


def table(results: Sequence[Tried]) -> str:
    rows = ["| algorithm | entries | read | built | in the real environment |", "|---|---|---|---|---|"]
    shorts = list(dict.fromkeys(each.algorithm for each in results))
    for short in [*shorts, ""]:
        of_it = [each for each in results if short in ("", each.algorithm)]
        counts = [sum(getattr(each, what) for each in of_it) for what in ("read", "built")]
        real = sum(each.built and not each.lacks for each in of_it)
        name = f"{short} ({ALGORITHMS[short]})" if short else "**all**"
        rows.append(f"| {name} | {len(of_it)} | {counts[0]} | {counts[1]} | {real} |")
    return "\n".join(rows)


def write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGINS)
    _, after = rest.split(ENDS)
    PAGE.write_text(f"{before}{BEGINS}\n{text}\n{ENDS}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", nargs="*", default=[], choices=sorted(ALGORITHMS), help="only these files")
    parser.add_argument("--write", action="store_true", help="put the table into docs/zoo.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of environments that there is a newer version
    stand_in_for_ae()
    results = []
    for short, name, entry in all_entries(options.algo):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # MuJoCo leaves a log where it stands
            results.append(tried(short, name, entry, Path(folder)))
        last = results[-1]
        said = (last.problem or "built") + (f", in one of the same spaces ({last.lacks})" if last.lacks else "")
        print(f"{short} {name}: {said}, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        for text in last.unsaid:
            print(f"  left out: {text}", file=sys.stderr)
    unsaid = sum(len(each.unsaid) for each in results)
    versions = ", ".join(f"{name} {installed(name)}" for name in ("rl_zoo3", "stable-baselines3", "gymnasium"))
    text = f"{table(results)}\n\nValues that section.toml cannot express: {unsaid}. Measured with {versions}."
    print(text)
    if options.write:
        write(text)
    return 0 if all(each.built for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
