"""An episode without an end, in a rollout of whole episodes: the session ends all the same; the preflight refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from trainer_runs import Holding, origin_of, settings

from kaggle_manager.checkpoints import find_latest_checkpoint
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.env_check import CheckResult, Effort, check_environment
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.trainer import train


class Endless(Holding):
    """Ends its first episodes, and from then on none."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, ends: int = 0) -> None:
        super().__init__(None)
        self._left = ends

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        over = self._left > 0 and self._steps == 10
        self._left -= over
        return np.zeros(1, np.float32), float(self._steps % 2), over, False, {}


def with_limit() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Endless(), 500)


class Ticking:
    """A clock of a hundredth of a second each time it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.slow
def test_a_session_ends_inside_a_rollout_that_does_not_with_what_was_saved_before(tmp_path: Path, asked: bool) -> None:
    chosen = settings(
        tmp_path,
        environment=EntryPoint(f"{__name__}:Endless", {"ends": 4}),
        hyperparameters={"learning_starts": 5, "train_freq": [1, "episode"], "policy_kwargs": {"net_arch": [8]}},
        save_every=10,
        evaluate_every=10**6,
        total=10**6,
    )
    clock = SessionClock(None if asked else 60.0, now=Ticking())
    if asked:  # inside the rollout that does not end
        step = Endless.step

        def asking(self: Endless, action: Any) -> Any:
            if self._steps == 2_000:  # the probe plays 1,000 at most
                clock.request_stop("asked to stop by SIGTERM")
            return step(self, action)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Endless, "step", asking)
            outcome = train(chosen, origin_of(tmp_path), clock)
    else:
        outcome = train(chosen, origin_of(tmp_path), clock)
    assert (outcome.kind, outcome.step) == ("interrupted", 40)
    assert ("asked to stop by SIGTERM" if asked else "time is used up") in outcome.reason
    assert "inside a rollout" in outcome.reason
    assert "train_freq" in outcome.reason
    found = find_latest_checkpoint(tmp_path, "cart")
    assert found is not None
    assert found.step == 40


def checks(environment: str, look_s: float = 60.0, **kwargs: Any) -> dict[str, CheckResult]:
    scenario = ScenarioConfig.model_validate(
        {
            "environment": f"{__name__}:{environment}",
            "environment_kwargs": kwargs,
            "environment_files": ["e.py"],
            "reward_files": ["e.py"],
            "algorithm": "DQN",
            "timesteps": 100,
            "models": "data/models",
            "hyperparameters": {},
            "quick": {"models": "data/quick"},
        }
    )
    found = check_environment(scenario, Effort(steps=200, look_s=look_s, training_s=60.0))
    return {result.name: result for result in found}


def test_the_preflight_refuses_an_environment_whose_episodes_do_not_end() -> None:
    found = checks("Endless")["an episode ends"]
    assert not found.ok
    assert "TimeLimit" in found.detail
    assert checks("with_limit")["an episode ends"].detail == "after 500 steps at most"
    assert checks("Endless", ends=10**6)["an episode ends"].detail == "within 200 random actions"


def test_a_slow_environment_is_not_called_endless() -> None:
    found = checks("Endless", look_s=0.0)["an episode ends"]
    assert found.ok
    assert found.detail.startswith("WARNING")
