"""A function of the user's may read what it makes from anywhere: what it has made is part of the experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize
from trainer_runs import SCENARIO, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer import Context

READ: dict[str, Any] = {"model": {}, "normalize": {}}


def build(context: Context) -> PPO:
    given = {"n_steps": 20, "batch_size": 20, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}, **READ["model"]}
    env = VecNormalize(context.make_vec_env("CartPole-v1", n_envs=2), **READ["normalize"])
    return PPO("MlpPolicy", env, seed=context.seed, device="cpu", **given)


CHANGES = {"gamma": 0.9, "learning_rate": 1e-2, "n_steps": 40, "batch_size": 10, "clip_range": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "said"),
    [
        ({"model": {"verbose": 0, "clip_range": lambda _: 0.2}}, ["clip_range: checkpoint=0.2, current="]),
        (
            {"model": CHANGES},
            [
                "Made by build.gamma: checkpoint=0.99, current=0.9 - restore",
                "learning_rate: checkpoint=0.0003, current=0.01",
                "n_steps: checkpoint=20, current=40",
                "batch_size: checkpoint=20, current=10",
                "clip_range: checkpoint=0.2, current=0.1",
            ],
        ),
        (
            {"normalize": {"clip_obs": 5.0}},
            ["Made by build.vec_env_wrapper: ", "clip_obs: checkpoint=10.0, current=5.0"],
        ),
        ({"model": {"verbose": 1}}, []),
    ],
)
def test_what_it_takes_from_elsewhere_makes_another_experiment(
    read: dict[str, Any], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{__name__}:build"
    config = settings(tmp_path, build=name, algorithm=name, hyperparameters={}, total=80, evaluate_every=80)
    session(config, max_steps=40)
    for key, value in read.items():
        monkeypatch.setitem(READ, key, value)
    if not said:
        assert session(config).step == 80
        return
    with pytest.raises(CheckpointIncompatible) as refused:
        session(config)
    assert all(each in refused.value.message for each in said), refused.value.message


@pytest.mark.slow
def test_it_is_accepted_where_the_user_says_so_and_is_then_no_longer_called_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{__name__}:build"
    config = settings(tmp_path, build=name, algorithm=name, hyperparameters={}, total=80, evaluate_every=80)
    session(config, max_steps=40)
    monkeypatch.setitem(READ, "model", {"gamma": 0.9})
    assert session(replace(config, accept_changes=True)).step == 80
    final = CheckpointStore(TrainingTree(tmp_path, SCENARIO)).final()
    assert final is not None
    [broken] = final.manifest.exact["broken"]
    assert (broken["step"], broken["why"]) == (40, "made by build.gamma was changed on purpose")
