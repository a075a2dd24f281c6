"""What section.toml says of a training is trained, and resumed bit for bit: every key at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_disks import Died, DyingDisk
from trainer_runs import SCENARIO, session

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.model import load_section
from kaggle_manager.trainer.sb3.selftest import curves
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.training_config import TrainingConfig, from_scenario

pytestmark = pytest.mark.slow

CASES = "kaggle_manager.trainer.sb3.selftest_cases"
SECTION = f"""
name = "every_key"
title = "Every key"
trains = true
default_scenario = "{SCENARIO}"
[scenarios.{SCENARIO}]
environment = "gymnasium:make"
environment_kwargs = {{ id = "Pendulum-v1" }}
eval_env_kwargs = {{ g = 9.0 }}
algorithm = "TD3"
policy = "stable_baselines3.td3.policies:TD3Policy"
timesteps = 240
seed = 3
save_every = 40
evaluation = {{ episodes = 2, every = 120 }}
models = "models"
quick.models = "quick"
n_envs = 2
env_wrapper = [{{ "{CASES}:Repeat" = {{ times = 6 }} }}, "gymnasium.wrappers:OrderEnforcing"]
vec_env_wrapper = {{ "stable_baselines3.common.vec_env:VecFrameStack" = {{ n_stack = 2 }} }}
normalize = "dict(norm_obs=True, norm_reward=True)"
noise = {{ type = "ornstein-uhlenbeck", std = 0.2 }}
[scenarios.{SCENARIO}.hyperparameters]
learning_starts = 40
buffer_size = 200
batch_size = 8
learning_rate = {{ piecewise = [[0.0, 1e-3], [0.3, 2e-4], [1.0, 1e-4]] }}
policy_kwargs = "dict(net_arch=[8], activation_fn=nn.Tanh, optimizer_class=th.optim.AdamW)"
"""


def of_section(folder: Path) -> TrainingConfig:
    toml = folder / "every_key" / "section.toml"
    toml.parent.mkdir(parents=True, exist_ok=True)
    toml.write_text(SECTION)
    section = load_section(toml)
    return from_scenario(
        SCENARIO,
        section.scenario(),
        total=None,
        tree=folder / "tree",
        lineage=Lineage("run", 1, None, 0),
        identity={**identity_of(section, SCENARIO, folder)},
    )


def test_every_key_is_trained_and_resumed_bit_for_bit(tmp_path: Path) -> None:
    chosen = of_section(tmp_path / "whole")
    whole = {**session(chosen).digests, **curves(TrainingTree(chosen.tree, SCENARIO))}
    cut = of_section(tmp_path / "cut")
    session(cut, max_steps=62)
    with pytest.raises(Died):
        session(cut, disk=DyingDisk(40))
    found = {**session(cut).digests, **curves(TrainingTree(cut.tree, SCENARIO))}
    assert differing(found, whole) == []
    final = CheckpointStore(TrainingTree(cut.tree, SCENARIO)).final()
    assert final is not None
    assert final.manifest.exact["exact"] != "none"
    assert final.manifest.identity["policy"] == "stable_baselines3.td3.policies:TD3Policy"
    assert final.manifest.identity["normalize"]["norm_reward"] is True
