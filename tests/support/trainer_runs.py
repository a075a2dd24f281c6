"""Small trainings for the tests of the trainer, run in this process."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kaggle_manager.checkpoints import Disk, Lineage, TrainingTree
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session import SessionOutcome
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, find_resume_point
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

SCENARIO = "cart"
CARTPOLE = EntryPoint("gymnasium:make", {"id": "CartPole-v1"})
PENDULUM = EntryPoint("gymnasium:make", {"id": "Pendulum-v1"})
DQN: dict[str, Any] = {
    "learning_starts": 20,
    "buffer_size": 150,
    "batch_size": 8,
    "train_freq": 4,
    "target_update_interval": 30,
    "exploration_fraction": 0.5,
    "learning_rate": {"linear": [1e-2, 1e-4]},
    "policy_kwargs": {"net_arch": [8]},
}


class Gusty(gym.Env[Any, Any]):
    """Draws from the generators of its process and from its own action space, as careless environments do."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self) -> None:
        self.action_space = gym.spaces.Discrete(3)
        self._place, self._steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = np.random.normal(), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._place += float(action) - 1 + random.gauss(0.0, 0.3) + 0.1 * float(self.action_space.sample())
        self._steps += 1
        return self._observation(), -abs(self._place), False, self._steps == 20, {}

    def _observation(self) -> Any:
        return np.array([self._place, self._steps / 20], dtype=np.float32)


class Lossy(gym.Env[Any, Any]):
    """Pickles without an error and without its state, and never repeats itself. Told to `RESETS`: the seeds it got."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self._place, self._steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        RESETS.append(seed)
        self._place, self._steps = random.SystemRandom().gauss(0.0, 1.0), 0
        return np.array([self._place], dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._place += float(action) - 0.5 + random.SystemRandom().gauss(0.0, 0.1)
        self._steps += 1
        return np.array([self._place], dtype=np.float32), -abs(self._place), False, self._steps == 35, {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_place": 0.0, "_steps": 0}


class Opaque(Lossy):
    """Refuses to be pickled, and never repeats itself."""

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("there is a socket in here")


class Holding(gym.Env[Any, Any]):
    """Repeats itself, and holds an object beside its state."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, held: Any) -> None:
        self._held, self._steps = held, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.full(1, self._steps / 30, np.float32), float(action), False, self._steps == 30, {}


class OfALibrary:
    """An object of a library whose next version, once the file `renamed` is there, has another name for it."""

    def __init__(self, renamed: str) -> None:
        self._renamed = renamed

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if Path(self._renamed).exists():
            raise ModuleNotFoundError("No module named 'library.old_name'")


def with_a_library(renamed: str) -> Holding:
    return Holding(OfALibrary(renamed))


class Stuck(Holding):
    """Does not close; with `catching`, whatever is raised in it meanwhile."""

    def __init__(self, *, catching: bool = False) -> None:
        super().__init__(None)
        self._catching = catching

    def close(self) -> None:
        for _ in range(2 if self._catching else 1):
            with contextlib.suppress(BaseException if self._catching else ()):
                time.sleep(3600)


class FailsAtStep(Holding):
    """Raises in its 40th step."""

    def __init__(self) -> None:
        super().__init__(0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._held += 1
        if self._held == 40:
            raise ValueError("the wheel came off")
        return super().step(action)


RESETS: list[int | None] = []


def settings(tree: Path, **changes: Any) -> TrainingConfig:
    """A DQN on CartPole of 300 timesteps, saved every 50 and evaluated every 100.

    Args:
        changes: fields of the configuration or of its environments; `environment` is their factory.
    """
    of_environments = {each.name for each in fields(Environments)} & changes.keys()
    around = {name: changes.pop(name) for name in of_environments}
    factory = changes.pop("environment", CARTPOLE)
    base = TrainingConfig(
        scenario=SCENARIO,
        algorithm="DQN",
        policy="MlpPolicy",
        hyperparameters=DQN,
        environments=changes.pop("environments", Environments(factory, **around)),
        total=300,
        tree=tree,
        lineage=Lineage("run", 1, None, 0),
        seed=3,
        save_every=50,
        evaluate_every=100,
        evaluation_episodes=2,
        identity={"environment_fingerprint": "test", "reward_fingerprint": "test"},
    )
    return replace(base, **changes)


def scramble() -> None:
    """Leave nothing of this process's random generators for the next training to inherit."""
    random.seed()
    np.random.seed()
    torch.seed()


def origin_of(tree: Path) -> ResumePoint:
    return find_resume_point(TrainingTree(tree, SCENARIO), fresh=False, warn=warn, check=lambda _: None)


def session(
    chosen: TrainingConfig, max_steps: int | None = None, *, origin: ResumePoint | None = None, disk: Disk | None = None
) -> SessionOutcome:
    """One session in this process, from wherever the tree is."""
    scramble()
    return train(chosen, origin or origin_of(chosen.tree), SessionClock(max_steps=max_steps), disk=disk)


SECTION_TOML = """
name = "cart"
title = "A small section"
trains = true
default_scenario = "cart"

[kernel]
accelerator = "NvidiaTeslaT4"

[scenarios.cart]
environment = "{environment}"
environment_files = ["environment.py"]
reward_files = ["environment.py"]
algorithm = "DQN"
timesteps = 100
seed = 1
models = "data/models"

[scenarios.cart.environment_kwargs]
{kwargs}

[scenarios.cart.hyperparameters]
{hyperparameters}

[scenarios.cart.hyperparameters.policy_kwargs]
net_arch = [8]

[scenarios.cart.quick]
models = "data/models_quick"
"""


def launch_order(
    code: Path,
    environment: str = "gymnasium:make",
    kwargs: str = 'id = "CartPole-v1"',
    hyperparameters: str = "learning_starts = 20",
    **changes: Any,
) -> dict[str, Any]:
    """The order of a session on the CPU of a section that is written below `code`, as the bundle holds it."""
    folder = code / "sections/cart"
    folder.mkdir(parents=True)
    content = SECTION_TOML.format(environment=environment, kwargs=kwargs, hyperparameters=hyperparameters)
    (folder / "section.toml").write_text(content)
    (folder / "environment.py").touch()
    values: dict[str, Any] = {
        "schema": LaunchOrder.SCHEMA,
        "run_id": "run",
        "generation": 1,
        "section": "cart",
        "section_folder": "sections/cart",
        "scenario": "cart",
        "target": 100,
        "bundle_sha256": "b" * 64,
    }
    return {**values, **changes}
