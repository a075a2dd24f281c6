"""Evaluations beside the training: the same results as in its own process, whatever the other one dies of."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO, SAC
from support import trainer_runs
from support.trainer_runs import CARTPOLE, PENDULUM, settings

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.trainer.sb3 import env_state, model_file
from kaggle_manager.trainer.sb3.callbacks import SessionOver
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.evaluation import Evaluation, Evaluator, statistics_of
from kaggle_manager.trainer.sb3.evaluation_process import Evaluating, Evaluations
from kaggle_manager.trainer.sb3.model_copy import ModelCopy
from kaggle_manager.trainer.sb3.selftest import curves
from kaggle_manager.trainer.sb3.selftest_cases import CASES
from kaggle_manager.trainer.sb3.state_digest import differing, digest

beside = pytest.mark.skipif(sys.platform != "linux", reason="another process is used on Linux")


def evaluations(model: Any, **changes: Any) -> Evaluations:
    """Of `model`, four episodes of CartPole; `factory` and `normalize` are of its environments."""
    made = Evaluations(Evaluating(evaluator(**{"mode": "none", "seed": 0, **changes})))
    made.of(model, "pickle", 3, all_alike=False)
    return made


def evaluator(**changes: Any) -> Evaluator:
    environments = Environments(changes.pop("factory", CARTPOLE), normalize=changes.pop("normalize", None))
    return Evaluator(**{"environments": environments, "mode": "pickle", "seed": 3, "episodes": 4, **changes})


def copy_of(model: Any) -> ModelCopy:
    return ModelCopy.of(model_file.snapshot(model), model.num_timesteps, statistics_of(model.get_env()))


def go_on(_: float) -> None:
    """There is time."""


def result(made: Evaluations, copied: ModelCopy, check: Callable[[float], None] = go_on) -> Evaluation:
    made.begin(copied)
    try:
        return made.result(copied, check).evaluation
    finally:
        made.close()


def trained(algorithm: Any = PPO, factory: Any = CARTPOLE, normalize: Any = None, **options: Any) -> Any:
    model = algorithm(
        "MlpPolicy", Environments(factory, normalize=normalize).vectorised("pickle", 1), seed=1, **options
    )
    model.learn(130)
    return model


SMALL = {"n_steps": 64, "batch_size": 64}
OFF_POLICY = {"learning_starts": 20, "buffer_size": 10**5, "batch_size": 8}


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "options", "changes"),
    [
        (PPO, SMALL, {}),
        (PPO, SMALL, {"normalize": {}}),
        (DQN, OFF_POLICY, {}),
        (SAC, {**OFF_POLICY, "use_sde": True}, {"factory": PENDULUM, "episodes": 1}),
    ],
    ids=["ppo", "ppo-normalised", "dqn", "sac-gsde"],
)
def test_a_copy_gets_the_score_of_its_model_in_either_process_and_later_training_changes_nothing_of_it(
    algorithm: Any, options: Any, changes: dict[str, Any], deterministic: bool
) -> None:
    changes = {**changes, "deterministic": deterministic}
    model = trained(algorithm, changes.get("factory", CARTPOLE), changes.get("normalize"), **options)
    own = evaluator(**changes)(model, lambda: None)
    copied = copy_of(model)
    apart, here = evaluations(model, **changes), evaluations(model, **changes)
    here._is_apart = False
    model.learn(65, reset_num_timesteps=False)
    before = digest([model.get_parameters(), env_state.space_rng(model.action_space), np.random.get_state()])
    again = ModelCopy.from_state(copied.state())
    found = result(apart, copied)
    assert found == result(here, again)
    # Exploration that depends on the state is no part of a model file: it is drawn anew, from the seed.
    assert found == own or (algorithm is SAC and not deterministic)
    after = digest([model.get_parameters(), env_state.space_rng(model.action_space), np.random.get_state()])
    assert after == before


def test_a_copy_with_hindsight_is_opened_without_its_buffer() -> None:
    case = CASES["dqn-hindsight"]
    vec = replace(case.environments, n_envs=1).vectorised("pickle", 1)
    model = DQN("MultiInputPolicy", vec, seed=1, **case.hyperparameters())
    loaded: Any = copy_of(model).load(DQN)
    assert loaded.replay_buffer.buffer_size == 1


class OnlyInItsFirstProcess(gym.Wrapper[Any, Any, Any, Any]):
    """Cannot be made in another process than the one that has loaded it."""

    def __init__(self) -> None:
        if multiprocessing.parent_process() is not None and multiprocessing.current_process().name == WHAT:
            raise OSError("the device is taken")
        super().__init__(gym.make("CartPole-v1"))


WHAT = "evaluates policies"


@beside
def test_what_cannot_be_played_apart_is_played_here_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = trained(**SMALL)
    found = result(evaluations(model, factory=OnlyInItsFirstProcess), copy_of(model))
    assert found == result(evaluations(model), copy_of(model))
    assert capsys.readouterr().out.count("OSError: the device is taken") == 1


class KillsItsProcess(gym.Wrapper[Any, Any, Any, Any]):
    """As where there is not memory enough for the other process."""

    def __init__(self) -> None:
        if multiprocessing.current_process().name == WHAT:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(gym.make("CartPole-v1"))


@beside
def test_a_process_that_is_killed_costs_no_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    model = trained(**SMALL)
    made, copied = evaluations(model, factory=KillsItsProcess), copy_of(model)
    expected = result(evaluations(model), copied)
    for _ in range(2):
        assert result(made, copied) == expected
    assert "evaluates policies is gone" in capsys.readouterr().out


def test_an_error_of_the_environment_is_raised_as_in_a_call_and_what_was_shown_last_is_known() -> None:
    model = trained(**SMALL)
    made = evaluations(model, factory=Breaks)
    with pytest.raises(ValueError, match="the wheel came off"):
        result(made, copy_of(model))
    assert made.last_observation is not None


class Breaks(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))

    def step(self, action: Any) -> Any:
        raise ValueError("the wheel came off")


class Endless(gym.Wrapper[Any, Any, Any, Any]):
    """Says in a file when it is closed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(gym.make("CartPole-v1").unwrapped)
        self._folder = folder

    def step(self, action: Any) -> Any:
        (self._folder / "stepped").touch()
        return np.zeros(4, np.float32), 0.0, False, False, {}

    def close(self) -> None:
        (self._folder / "closed").touch()


@beside
def test_what_nobody_waits_for_any_more_ends_in_order(tmp_path: Path) -> None:
    model = trained(**SMALL)
    made, copied = evaluations(model, factory=lambda: Endless(tmp_path), episodes=1), copy_of(model)
    made.begin(copied)

    def until_it_steps(_: float) -> None:
        if (tmp_path / "stepped").exists():
            raise SessionOver("enough")

    with pytest.raises(SessionOver):
        made.result(copied, until_it_steps)
    assert not (tmp_path / "closed").exists()
    started = time.monotonic()
    made.close()
    assert (tmp_path / "closed").exists()
    assert time.monotonic() - started < 4.0, "it was not killed"


class Slow(gym.Wrapper[Any, Any, Any, Any]):
    """Where there is such a file, not ready in the other process before the training has gone on for long."""

    def __init__(self, slow: Path) -> None:
        super().__init__(gym.make("CartPole-v1"))
        if slow.exists() and multiprocessing.current_process().name == WHAT:
            time.sleep(0.5)


@pytest.mark.slow
def test_bits_do_not_depend_on_where_or_how_fast_evaluations_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = env_state.EntryPoint(f"{__name__}:Slow", {"slow": tmp_path / "it is"})

    def evidence(folder: str, **changes: Any) -> dict[str, str]:
        chosen = settings(tmp_path / folder, environment=environment, **changes)
        while (outcome := trainer_runs.session(chosen, max_steps=160)).kind != "completed":
            """In a session of its own each time: the second evaluation lies across."""
        return {**outcome.digests, **curves(TrainingTree(tmp_path / folder, trainer_runs.SCENARIO))}

    fast = evidence("fast")
    (tmp_path / "it is").touch()
    assert differing(fast, evidence("slow", save_every=70)) == []
    monkeypatch.setattr(Evaluations, "begin", lambda self, _: setattr(self, "_is_apart", False))
    assert differing(fast, evidence("here")) == []
