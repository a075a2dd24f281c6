"""A project with one section whose environment draws: a point on a line, trained in seconds on this machine."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.sections.project import get_section
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.local_training import train_here
from kaggle_manager.trees.inspect import newest_saved

SECTION, MODULE = "line", "line_that_is_drawn"
STEPS, FRAMES = 16, 17
"""Of an episode; its first picture is that of the reset."""
ENVIRONMENT = f"""
import gymnasium as gym
import numpy as np


class Line(gym.Env):
    metadata = {{"render_modes": ["rgb_array"], "render_fps": 10}}
    observation_space = gym.spaces.Box(-100.0, 100.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.integers(-5, 6)), 0
        return np.array([self.place], np.float32), {{}}

    def step(self, action):
        self.place += 2 * int(action) - 1
        self.steps += 1
        return np.array([self.place], np.float32), -abs(self.place), False, self.steps == {STEPS}, {{}}

    def render(self):
        if self.render_mode is None:
            return None
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:, int(np.clip(32 + self.place, 0, 63))] = 255
        return picture
"""
SECTION_TOML = f"""
name = "{SECTION}"
title = "A point on a line"
trains = true
default_scenario = "{SECTION}"

[kernel]
packages = []

[scenarios.{SECTION}]
environment = "{MODULE}:Line"
environment_files = ["{MODULE}.py"]
reward_files = ["{MODULE}.py"]
algorithm = "PPO"
timesteps = 64
seed = 1
models = "data/models"
normalize = true
evaluation = {{ episodes = 2, every = 32 }}
quick.models = "data/models_quick"

[scenarios.{SECTION}.hyperparameters]
n_steps = 32
batch_size = 32
n_epochs = 1
policy_kwargs = {{ net_arch = [8] }}
"""


def make_line(project: Path) -> Path:
    """The project in this folder."""
    (section := project / "sections" / SECTION).mkdir(parents=True)
    (section / "section.toml").write_text(SECTION_TOML, encoding="utf-8")
    (project / f"{MODULE}.py").write_text(ENVIRONMENT, encoding="utf-8")
    return project


def train_line(project: Path) -> RunConfig:
    """Train it to its target, and have the journal know its run."""
    sys.modules.pop(MODULE, None)  # of another project's folder
    sys.path.insert(0, str(project))
    try:
        train_here(project, get_section(project, SECTION), SECTION, base=project, clock=SessionClock())
    finally:
        sys.path.remove(str(project))
    config = build_config(SECTION, project_root=project, environ={})
    newest = newest_saved(TrainingTree(config.tree, SECTION))
    assert newest is not None
    row = RunRow(
        newest.lineage.run_id, SECTION, SECTION, 64, False, str(config.tree), "local", "o", "s", newest.created_at
    )
    with closing(Journal(config.journal)) as journal:
        journal.add_run(row)
        journal.finish_run(row.run_id, "finished", newest.created_at)
    return config
