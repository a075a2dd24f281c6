"""A target that is changed is a break in exactness where something follows the total, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.utils import LinearSchedule
from trainer_runs import origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.trainer.sb3.total_timesteps import what_follows_it

SMALL = {"policy_kwargs": {"net_arch": [8]}}
ON_POLICY: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, **SMALL}


class Own(BaseCallback):
    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("model", "callbacks", "names"),
    [
        (PPO("MlpPolicy", "CartPole-v1", **SMALL), [StopTrainingOnMaxEpisodes(9)], []),
        (PPO("MlpPolicy", "CartPole-v1", clip_range=lambda left: 0.2 * left, **SMALL), [], ["clip_range"]),
        (
            PPO("MlpPolicy", "CartPole-v1", learning_rate=LinearSchedule(1e-3, 0, 1.0), **SMALL),
            [],
            ["learning_rate"],
        ),
        (DQN("MlpPolicy", "CartPole-v1", buffer_size=9, **SMALL), [], ["exploration_schedule"]),
        (PPO("MlpPolicy", "CartPole-v1", **SMALL), [Own()], [f"{__name__}:Own"]),
    ],
    ids=["constants", "a function", "a learning rate", "exploration", "a callback of the user's"],
)
def test_what_follows_the_total_is_named(model: Any, callbacks: list[BaseCallback], names: list[str]) -> None:
    assert what_follows_it(model, callbacks) == names


@pytest.mark.slow
def test_a_raised_target_that_nothing_follows_ends_with_the_bits_of_one_that_was_never_lower(tmp_path: Path) -> None:
    algorithm = {"algorithm": "PPO", "hyperparameters": ON_POLICY}
    session(settings(tmp_path / "raised", total=96, **algorithm))
    raised = session(settings(tmp_path / "raised", total=192, **algorithm))
    whole = session(settings(tmp_path / "whole", total=192, **algorithm))
    assert raised.step == whole.step == 192
    assert raised.digests == whole.digests
    assert exactness(tmp_path / "raised")["broken"] == []


@pytest.mark.slow
def test_a_raised_target_that_exploration_follows_is_another_training_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(settings(tmp_path, total=60))
    session(settings(tmp_path, total=120))
    (broken,) = exactness(tmp_path)["broken"]
    assert broken["step"] == 60
    assert "from 60 to 120 timesteps, and these may depend on it: exploration_schedule, learning_rate" in broken["why"]
    assert broken["why"] in capsys.readouterr().out
    record = origin_of(tmp_path).record
    assert record is not None
    assert record.target == 120


def exactness(tree: Path) -> dict[str, Any]:
    final = CheckpointStore(TrainingTree(tree, "cart")).final()
    assert final is not None
    return dict(final.manifest.exact)
