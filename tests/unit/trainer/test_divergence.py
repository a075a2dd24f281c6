"""A training that ran away is not saved, says what ran away first, and is never called anything else."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.save_util import load_from_zip_file
from support import trainer_runs
from support.trainer_runs import DQN, SCENARIO, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import Diverged
from kaggle_manager.sections.project import get_section
from kaggle_manager.trainer.sb3 import divergence, preflight, train_dqn
from kaggle_manager.trainer.sb3.checkpointing import Checkpointer
from kaggle_manager.trainer.sb3.episodes import Episodes
from kaggle_manager.trainer.sb3.evaluation import Evaluator

LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "at",
    [
        lambda bad: {"policy": {"a.weight": np.array([1.0, bad], np.float32)}},
        lambda bad: {"policy.optimizer": {"state": {0: {"exp_avg": np.array([[bad]], np.float32)}}}},
        lambda bad: {"policy.optimizer": {"param_groups": [{"lr": bad}]}},
        lambda bad: {"log_ent_coef": torch.tensor([bad], dtype=torch.bfloat16)},
    ],
)
def test_whatever_is_not_finite_in_a_model_is_named(at: Any, bad: float) -> None:
    assert divergence.in_parameters(at(bad)).startswith(next(iter(at(bad))))
    assert divergence.in_parameters(at(1.0)) == ""


def test_large_numbers_whose_sum_is_not_finite_are_finite() -> None:
    assert divergence.in_parameters({"w": np.full(4, LARGEST, np.float32)}) == ""
    assert divergence.in_parameters({"step": np.array([3]), "name": "x", "none": None, "flag": True}) == ""


def test_a_loss_is_judged_and_what_may_be_nan_is_not() -> None:
    def logged(**values: Any) -> Any:
        return SimpleNamespace(logger=SimpleNamespace(name_to_value={f"train/{k}": v for k, v in values.items()}))

    assert divergence.in_losses(logged(explained_variance=math.nan, loss=np.float32(1e30))) == ""
    assert divergence.in_losses(logged(loss=np.float32(math.inf))) == "train/loss is inf"
    assert divergence.in_losses(logged(critic_loss=math.nan)) == "train/critic_loss is nan"


class Poisoned(gym.Env[Any, Any]):
    """Gives something that is not finite at its `at`-th step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, *, at: int = 10**9, reward: float = 1.0, seen: float = 0.0, continuous: bool = False) -> None:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,)) if continuous else gym.spaces.Discrete(2)
        self._at, self._reward, self._seen, self._steps = at, reward, seen, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        observation = self.np_random.normal(size=2).astype(np.float32)
        if self._steps == self._at:
            return observation + self._seen, self._reward, False, False, {}
        if not np.isfinite(action).all():
            raise ArithmeticError("the simulator cannot carry out such an action")
        return observation, 1.0, False, self._steps % 20 == 0, {}


PPO = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}


def finite_head(tree: Path) -> int | None:
    """Step of the newest checkpoint, whose parameters are all finite; None when there is none."""
    head = CheckpointStore(TrainingTree(tree, SCENARIO)).find_latest_checkpoint()
    if head is None:
        return None
    _, parameters, variables = load_from_zip_file(head.model_path, load_data=False)
    assert divergence.in_parameters({**parameters, **(variables or {})}) == ""
    return head.step


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of such numbers
@pytest.mark.parametrize(
    ("chosen", "says", "head"),
    [
        # A reward: its row is seen before it is saved, its loss at the next rollout.
        (
            {"environment": lambda: Poisoned(at=120, reward=math.nan), "hyperparameters": DQN},
            "gave a reward that is not finite first, near step 120",
            100,
        ),
        (
            {"environment": lambda: Poisoned(at=120, seen=math.inf), "hyperparameters": {**DQN, "batch_size": 128}},
            "gave an observation that is not finite first, near step 120",
            100,
        ),
        # A policy gradient dies inside the library of parameters or observations that are not finite.
        (
            {"environment": lambda: Poisoned(at=120, reward=math.inf), "algorithm": "PPO", "hyperparameters": PPO},
            "gave a reward, or an episode's last observation, that is not finite first, near step 120",
            96,
        ),
        (
            {"environment": lambda: Poisoned(at=120, seen=math.nan), "algorithm": "PPO", "hyperparameters": PPO},
            "gave an observation that is not finite first, near step 120",
            96,
        ),
        # The learning rate alone: nothing is said of the environment, which only repeats what it was given.
        (
            {
                "environment": lambda: Poisoned(continuous=True),
                "algorithm": "PPO",
                "hyperparameters": {**PPO, "learning_rate": 1e30},
            },
            None,
            None,
        ),
    ],
    ids=["dqn-reward", "dqn-observation", "ppo-reward", "ppo-observation", "ppo-learning-rate"],
)
def test_a_training_that_ran_away_keeps_its_finite_checkpoints(
    tmp_path: Path, chosen: dict[str, Any], says: str | None, head: int | None
) -> None:
    config = settings(
        tmp_path, **{"save_every": 32 if "algorithm" in chosen else 50, "evaluate_every": 10**6, **chosen}
    )
    with pytest.raises(Diverged, match="has diverged") as raised:
        trainer_runs.session(config)
    assert finite_head(tmp_path) == head
    assert ("the environment gave" in str(raised.value).lower()) == (says is not None)
    assert says is None or says in raised.value.message
    assert "learning rate" in raised.value.next_step
    assert "--fresh" in raised.value.next_step
    if head is not None:
        assert f"{head:,}" in raised.value.safe


class Overwhelming(Poisoned):
    """Finite rewards of which a batch has no finite mean; clipped gradients keep the parameters finite."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, LARGEST, terminated, truncated, info


def test_a_loss_that_is_not_finite_ends_a_training_whose_parameters_are(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 24: train/loss is inf\.\n"):
        trainer_runs.session(settings(tmp_path, environment=Overwhelming, hyperparameters={**DQN, "gamma": 0.0}))


def test_an_evaluation_below_the_bound_of_the_section_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 100.*mean reward.*reward_below is 1000"):
        trainer_runs.session(settings(tmp_path, diverged_below=1000.0))
    assert finite_head(tmp_path) == 152, "its result is taken when the next evaluation is due"


@pytest.mark.parametrize("at", [0, 5])
def test_an_observation_of_an_evaluation_that_is_not_finite_is_what_ended_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    class Blind(Poisoned):
        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            observation, info = super().reset(**options)
            return observation + (math.nan if at == 0 else 0.0), info

    monkeypatch.setattr(
        Evaluator, "environment", lambda *_: Episodes([lambda: Monitor(Blind(at=at, seen=math.nan))] * 2, [0, 1])
    )
    config = settings(
        tmp_path, environment=Poisoned, algorithm="PPO", hyperparameters=PPO, save_every=32, evaluate_every=64
    )
    with pytest.raises(Diverged, match="at step 128: in an evaluation an observation is not finite") as raised:
        trainer_runs.session(config)
    assert raised.value.next_step.startswith("correct what the environment gives, or")
    assert finite_head(tmp_path) == 96


@pytest.mark.parametrize("below", [None, -1e9])
def test_a_score_that_is_not_finite_is_said_and_is_below_every_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], below: float | None
) -> None:
    monkeypatch.setattr(
        Evaluator, "environment", lambda *_: Episodes([lambda: Monitor(Poisoned(at=5, reward=math.nan))] * 2, [0, 1])
    )
    config = settings(tmp_path, environment=Poisoned, total=100, diverged_below=below)
    with pytest.raises(Diverged, match="mean reward of nan") if below else contextlib.nullcontext():
        trainer_runs.session(config)
    assert "mean reward of nan: the environment's reward is not finite" in capsys.readouterr().out


def test_a_model_that_is_not_finite_never_becomes_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = Checkpointer.copied

    def poisoned(self: Checkpointer) -> Any:
        """As if the newest update, after the newest save, had been one too many."""
        with torch.no_grad():
            next(self.training.model.policy.parameters()).fill_(math.nan)
        return copied(self)

    monkeypatch.setattr(Checkpointer, "copied", poisoned)
    config = settings(tmp_path, hyperparameters={**DQN, "learning_starts": 10**6}, total=100)
    with pytest.raises(Diverged):
        trainer_runs.session(config)
    assert CheckpointStore(TrainingTree(tmp_path, SCENARIO)).best() is None
    assert finite_head(tmp_path) == 100


SECTION_TOML = """
name = "runaway"
title = "A bound that no training keeps"
trains = true
default_scenario = "cart"

[scenarios.cart]
environment = "gymnasium:make"
environment_kwargs = { id = "CartPole-v1" }
algorithm = "PPO"
hyperparameters = { n_steps = 32, batch_size = 32, n_epochs = 1 }
timesteps = 64
evaluation = { episodes = 1, every = 32 }
divergence = { reward_below = 1000.0 }
models = "data/models"

[scenarios.cart.quick]
models = "data/models_quick"
"""


def test_on_this_machine_the_message_names_the_command_that_starts_from_zero_and_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = tmp_path / "sections" / "runaway" / "section.toml"
    section.parent.mkdir(parents=True)
    section.write_text(SECTION_TOML)
    monkeypatch.chdir(tmp_path)
    assert train_dqn.main(["--section", "runaway", "--save-every", "32"]) == Diverged.exit_code
    command = capsys.readouterr().err.partition("from zero with --fresh: ")[2].split()
    assert command[:3] == ["python", "-m", "kaggle_manager.trainer.sb3.train_dqn"]
    section.write_text(SECTION_TOML.replace("1000.0", "1.0"))
    assert train_dqn.main(["--section", "runaway"]) == Diverged.exit_code, "it is not resumed"
    assert train_dqn.main(command[3:]) == 0
    assert "Starting from zero" in capsys.readouterr().out


def test_a_preflight_that_diverges_is_called_that_and_not_a_resume_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise Diverged("The parameters of policy are not finite at step 8.", next_step="x")

    monkeypatch.setattr(preflight, "train_here", diverge)
    monkeypatch.setattr(preflight, "_wait_for_save", lambda *_: None)
    project = Path(__file__).resolve().parents[3]
    section = get_section(project, "section_7_6_rl_performance")
    [found] = preflight.check_training(project, section, section.default_scenario or "")
    assert (found.name, found.ok) == ("does not diverge", False)
    assert "not finite at step 8. Lower the learning rate" in found.detail
