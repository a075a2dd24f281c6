"""Outside of a training actions are chosen as in it: no forbidden one, and with the memory of a recurrent policy."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import acting, divergence, env_state
from kaggle_manager.trainer.sb3.env_check import Effort, check_environment
from kaggle_manager.trainer.sb3.env_probe import probe
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.selftest_cases import Walls

SPACES: list[tuple[Any, list[int]]] = [
    (spaces.Discrete(4), [0, 1, 0, 1]),
    (spaces.Discrete(3, start=5), [0, 1, 1]),
    (spaces.MultiDiscrete([2, 3]), [1, 0, 0, 1, 1]),
    (spaces.MultiBinary(3), [1, 1, 0, 1, 1, 0]),
]


class Allowing(gym.Env[Any, Any]):
    def __init__(self, space: Any, allowed: list[int]) -> None:
        self.action_space, self._allowed = space, allowed

    def action_masks(self) -> Any:
        return np.array(self._allowed, dtype=bool)


@pytest.mark.parametrize(("space", "allowed"), SPACES)
def test_random_actions_are_all_that_are_allowed_and_no_other(space: Any, allowed: list[int]) -> None:
    env = Allowing(space, allowed)
    drawn = [acting.random_action(env) for _ in range(200)]
    assert all(space.contains(action) and acting.is_allowed(env, action) for action in drawn)
    unmasked = {str(action) for action in (space.sample() for _ in range(500)) if acting.is_allowed(env, action)}
    assert {str(action) for action in drawn} == unmasked, "every allowed action comes up"


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_evaluation_never_chooses_a_forbidden_action(deterministic: bool) -> None:
    model = MaskablePPO("MlpPolicy", env_state.make_vec_env(Walls, "pickle", 1), seed=1)
    found = Evaluator(Environments(Walls), "pickle", 3, 4, deterministic)(model, lambda: None)
    assert len(found.returns) == 4


def test_the_probe_never_chooses_a_forbidden_action() -> None:
    assert probe(Environments(Walls), 1).mode == "pickle"


class Remembers(gym.Env[Any, Any]):
    """Pays for the bit that was shown in the first step of an episode, long after."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 5
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.zeros(1, np.float32), float(action[0]), not self._left, False, {}


def test_an_evaluation_carries_the_state_of_a_recurrent_policy_and_begins_it_anew_with_each_episode() -> None:
    model = RecurrentPPO("MlpLstmPolicy", env_state.make_vec_env(Remembers, "pickle", 1), seed=1)
    found = Evaluator(Environments(Remembers), "pickle", 3, 3)(model, lambda: None)
    state, starts, played = None, np.ones(1, bool), []
    for step in range(5):
        action, state = model.predict(np.full((1, 1), not step, np.float32), state, starts, deterministic=True)
        starts = np.zeros(1, bool)
        played.append(float(np.clip(action, -1, 1)[0, 0]))
    assert len(set(played[1:])) == 4, "the same observation, and another memory"
    assert found.returns == pytest.approx([sum(played)] * 3, abs=1e-5)


def scenario(algorithm: str, environment: str) -> ScenarioConfig:
    return ScenarioConfig.model_validate(
        {
            "environment": environment,
            "algorithm": algorithm,
            "timesteps": 10,
            "models": "m",
            "quick": {"models": "q"},
        }
    )


WALLS = "kaggle_manager.trainer.sb3.selftest_cases:Walls"
EFFORT = Effort(steps=100, look_s=60.0, training_s=60.0)


def test_the_preflight_never_chooses_a_forbidden_action_for_an_algorithm_with_masks() -> None:
    results = list(check_environment(scenario("MaskablePPO", WALLS), EFFORT))
    assert all(result.ok for result in results), results


def test_the_preflight_tries_forbidden_actions_for_an_algorithm_that_will() -> None:
    assert any("a wall" in result.detail for result in check_environment(scenario("PPO", WALLS), EFFORT))


def test_a_recurrent_algorithm_is_told_the_policy_it_has() -> None:
    made = scenario("RecurrentPPO", "gymnasium:make")
    made = made.model_copy(update={"environment_kwargs": {"id": "CartPole-v1"}})
    *_, last = check_environment(made, EFFORT)
    assert last.detail.startswith("policy: ")
    assert "accepted: MlpLstmPolicy" in last.detail


def test_an_environment_without_masks_is_named_before_the_training_asks_for_them() -> None:
    made = scenario("MaskablePPO", "gymnasium:make")
    made = made.model_copy(update={"environment_kwargs": {"id": "CartPole-v1"}})
    *_, last = check_environment(made, EFFORT)
    assert not last.ok
    assert "it has no method action_masks()" in last.detail


def test_what_ended_a_recurrent_training_is_not_hidden_by_asking_its_policy() -> None:
    vec = env_state.make_vec_env(Remembers, "pickle", 1)
    model = RecurrentPPO("MlpLstmPolicy", vec, n_steps=8, batch_size=8, seed=1)
    model.learn(8)
    assert model._n_updates
    assert divergence.cause_of(model) == ""
    # Finite, and too large to compute with: all are added with one sign, so that every order of adding overflows.
    model.policy.mlp_extractor.policy_net[-2].bias.data.fill_(100.0)
    model.policy.action_net.weight.data.fill_(3e38)
    assert divergence.cause_of(model) == "what the policy answers is not finite"
