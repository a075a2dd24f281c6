"""Every item of the state is needed: a resume without it ends with other bits, and the certificate says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from trainer_runs import CARTPOLE, PENDULUM, origin_of, session, settings

from kaggle_manager.errors import CheckpointIncompatible
from kernels.rl_training import exact_state
from kernels.rl_training.certificate import differing

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}}
OFF_POLICY: dict[str, Any] = {"learning_starts": 20, "buffer_size": 150, "batch_size": 8, **SMALL}


def td3() -> dict[str, Any]:
    noise = OrnsteinUhlenbeckActionNoise(mean=np.zeros(1), sigma=0.3 * np.ones(1))
    return {
        "algorithm": "TD3",
        "environment": PENDULUM,
        "hyperparameters": {**OFF_POLICY, "action_noise": noise},
        "total": 150,
    }


def gsde() -> dict[str, Any]:
    # The exploration matrices are drawn when a rollout begins and used throughout it.
    hyperparameters = {**SMALL, "n_steps": 25, "batch_size": 25, "n_epochs": 2, "use_sde": True}
    return {"algorithm": "PPO", "environment": PENDULUM, "hyperparameters": hyperparameters, "total": 150}


def ppo() -> dict[str, Any]:
    hyperparameters = {**SMALL, "n_steps": 25, "batch_size": 25, "n_epochs": 2}
    return {"algorithm": "PPO", "environment": CARTPOLE, "hyperparameters": hyperparameters, "total": 150}


def dqn() -> dict[str, Any]:
    return {}


def exploring_dqn() -> dict[str, Any]:
    return {"total": 150}


def dqn_with_workers() -> dict[str, Any]:
    return {"total": 150, "processes": True}


# The training in which each item matters, and where it is cut (a multiple of the rollout, inside an episode).
MATTERS: dict[str, tuple[Any, int]] = {
    "timesteps": (dqn, 128),
    "episodes": (dqn, 128),
    "calls": (dqn, 128),
    "updates": (td3, 75),
    "exploration": (exploring_dqn, 24),
    "observations": (dqn, 128),
    "episode_statistics": (dqn, 128),
    "replay": (dqn, 128),
    "environment": (dqn, 128),
    "action_noise": (td3, 75),
    "noise_matrices": (gsde, 75),
    "callbacks": (dqn, 128),
    # In one process the environment's state holds the same generator; with workers the model has one of its own.
    "action_space": (dqn_with_workers, 56),
    "random": (ppo, 75),
}

# Without these a resume does not even get to the end: the log cannot go back, the environment was never reset.
FAILS_WITHOUT: dict[str, type[Exception]] = {"timesteps": ValueError, "environment": RuntimeError}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, tuple[dict[str, str], Path]]:
    """For each training: its certificate when it is not cut, and the tree of one that is."""
    result = {}
    for make, cut in {MATTERS[name] for name in MATTERS}:
        folder = tmp_path_factory.mktemp(make.__name__)
        whole = session(settings(folder / "whole", **make(), save_every=1000))
        session(settings(folder / "cut", **make()), max_steps=cut)
        result[make] = (whole.certificate, folder / "cut")
    return result


def test_the_table_of_this_test_is_the_table_of_the_state() -> None:
    assert set(MATTERS) == set(exact_state.ITEMS)


@pytest.mark.parametrize("make", [dqn, exploring_dqn, dqn_with_workers, td3, gsde, ppo])
def test_with_all_of_it_the_end_is_the_same(make: Any, ends: Any, tmp_path: Path) -> None:
    expected, cut = ends[make]
    shutil.copytree(cut, tmp_path / "tree")
    outcome = session(settings(tmp_path / "tree", **make()))
    assert outcome.resumed_from > 0
    assert differing(outcome.certificate, expected) == []


@pytest.mark.parametrize("item", sorted(MATTERS))
def test_without_one_item_the_end_differs(
    item: str, ends: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, _ = MATTERS[item]
    expected, cut = ends[make]
    shutil.copytree(cut, tmp_path / "tree")
    origin = origin_of(tmp_path / "tree")
    del origin.items[item]
    monkeypatch.setattr(exact_state, "check_complete", lambda state: None)
    if item in FAILS_WITHOUT:
        with pytest.raises(FAILS_WITHOUT[item]):
            session(settings(tmp_path / "tree", **make()), origin=origin)
        return
    outcome = session(settings(tmp_path / "tree", **make()), origin=origin)
    assert differing(outcome.certificate, expected)


@pytest.mark.parametrize("change", [lambda items: items.pop("random"), lambda items: items.update(new=1)])
def test_a_state_with_other_items_is_refused_by_name(change: Any, ends: Any, tmp_path: Path) -> None:
    shutil.copytree(ends[dqn][1], tmp_path / "tree")
    origin = origin_of(tmp_path / "tree")
    change(origin.items)
    with pytest.raises(CheckpointIncompatible, match=r"items that differ: (random|new)"):
        session(settings(tmp_path / "tree"), origin=origin)
