"""An evaluation depends on the policy and the seeds alone, and leaves no trace in the training."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from kaggle_manager.trainer.sb3 import env_state, evaluation, random_state
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.episodes import Episodes, play
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.state_digest import digest

CARTPOLE = env_state.EntryPoint("gymnasium:make", {"id": "CartPole-v1"})


def evaluator(**changes: Any) -> Evaluator:
    """`factory` and `normalize` are of its environments."""
    made = {"normalize": changes.pop("normalize", None)}
    environments = Environments(changes.pop("factory", CARTPOLE), **made)
    return Evaluator(**{"environments": environments, "mode": "pickle", "seed": 3, "episodes": 4, **changes})


def everything(model: Any) -> str:
    parts = [random_state.collect(), env_state.space_rng(model.action_space), model.get_parameters()]
    return digest([*parts, env_state.digests(env_state.collect(model.get_env(), "pickle"))])


@pytest.mark.parametrize("algorithm", [PPO, DQN])
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_policy_gets_the_same_score_and_the_training_notices_nothing(
    algorithm: Any, deterministic: bool
) -> None:
    model = algorithm("MlpPolicy", env_state.make_vec_env(CARTPOLE, "pickle", 1), seed=1)
    if algorithm is DQN:
        model.exploration_rate = 0.5
    model.get_env().reset()
    before = everything(model)
    first = evaluator(deterministic=deterministic)(model, lambda: None)
    assert everything(model) == before
    np.random.rand(100)
    assert evaluator(deterministic=deterministic)(model, lambda: None) == first
    assert len(set(first.returns)) > 1, "the episodes have seeds of their own"


class Shared(gym.Env[Any, Any]):
    """Its spaces belong to the class, so all environments have the same objects."""

    observation_space = gym.spaces.Dict({"x": gym.spaces.Box(-1.0, 1.0, (1,))})
    action_space = gym.spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, bool(self.action_space.sample()), False, {}


def test_spaces_that_belong_to_a_class_are_left_as_they_were() -> None:
    model = PPO("MultiInputPolicy", env_state.make_vec_env(Shared, "pickle", 1), seed=1)
    before = [env_state.space_rng(space) for space in (Shared.observation_space, Shared.action_space)]
    evaluator(factory=Shared)(model, lambda: None)
    assert [env_state.space_rng(space) for space in (Shared.observation_space, Shared.action_space)] == before


def test_an_evaluation_that_is_given_up_leaves_no_trace_either() -> None:
    model = PPO("MlpPolicy", env_state.make_vec_env(CARTPOLE, "pickle", 1), seed=1)
    model.get_env().reset()
    before = everything(model)

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        evaluator(deterministic=False)(model, give_up)
    assert everything(model) == before


def test_observations_are_normalised_as_in_the_training_and_rewards_are_not() -> None:
    vec = Environments(CARTPOLE, normalize={}).vectorised("pickle", 1)
    model = PPO("MlpPolicy", vec, seed=1, n_steps=64, batch_size=64)
    model.learn(64)
    normaliser = unwrap_vec_normalize(vec)
    assert normaliser is not None
    before = digest(normaliser.obs_rms)
    result = evaluator(normalize={})(model, lambda: None)
    assert digest(normaliser.obs_rms) == before
    assert result.returns == [float(length) for length in result.lengths], "CartPole pays 1 a step"


@pytest.mark.parametrize("norm_reward", [True, False])
def test_a_normalisation_without_observations_has_no_statistics_of_them_to_hand_on(norm_reward: bool) -> None:
    normalize = {"norm_obs": False, "norm_reward": norm_reward}
    vec = Environments(CARTPOLE, normalize=normalize).vectorised("pickle", 1)
    model = PPO("MlpPolicy", vec, seed=1, n_steps=64, batch_size=64)
    model.learn(64)
    result = evaluator(normalize=normalize)(model, lambda: None)
    assert result.returns == [float(length) for length in result.lengths], "CartPole pays 1 a step"


def test_episodes_that_were_said_to_be_alike_are_played_twice_and_all_where_they_differ() -> None:
    """One short random episode proves nothing of the long ones that a policy plays later."""
    random_starts = PPO("MlpPolicy", env_state.make_vec_env(CARTPOLE, "pickle", 1), seed=1)
    found = evaluator(all_alike=True)(random_starts, lambda: None)
    assert (len(found.returns), found.played) == (4, sum(found.lengths)), "the two are the first of the four"
    assert found.returns == evaluator()(random_starts, lambda: None).returns
    always_the_same = PPO("MlpPolicy", env_state.make_vec_env(Same, "pickle", 1), seed=1)
    found = evaluator(factory=Same, all_alike=True)(always_the_same, lambda: None)
    assert (found.returns, found.lengths, found.played) == ([7.0], [7], 14)


class Same(gym.Env[Any, Any]):
    """Every episode is seven steps."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self._left = 7
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.zeros(1, np.float32), 1.0, self._left == 0, False, {}


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_episode_is_the_same_whatever_is_played_beside_it(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    model = PPO("MlpPolicy", env_state.make_vec_env(CARTPOLE, "pickle", 1), seed=1)
    together = evaluator(episodes=7)(model, lambda: None)
    assert len(set(together.returns)) > 2
    monkeypatch.setattr(evaluation, "AT_ONCE", at_once)
    assert evaluator(episodes=7)(model, lambda: None) == together
    assert evaluator(episodes=5)(model, lambda: None).returns == together.returns[:5]


class Lives(gym.Env[Any, Any]):
    """As many steps as its seed says; every third one ends a life. Counts the steps of all."""

    observation_space = gym.spaces.Box(0.0, 100.0, (1,))
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[Any, dict[str, Any]]:
        self._left = seed or 0
        return np.full(1, self._left, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        Lives.steps += 1
        return np.full(1, self._left, np.float32), 1.0, self._left == 0, False, {}


class ALife(gym.Wrapper[Any, Any, Any, Any]):
    """An end with every third step, after which the game goes on, as in Stable-Baselines3's `EpisodicLifeEnv`."""

    over = True

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        if self.over:
            return self.env.reset(**options)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, _, self.over, truncated, info = self.env.step(action)
        return observation, 0.5, self.over or self.env.unwrapped._left % 3 == 0, truncated, info  # type: ignore


def test_environments_whose_episode_is_over_stand_still_and_the_monitor_says_when_and_how_much() -> None:
    Lives.steps = 0
    seen: list[int] = []
    batch = Episodes([lambda: ALife(env_state.EpisodeMonitor(Lives()))] * 3, [5, 2, 8])
    asked: list[int] = []

    def acts(observations: Any, states: Any, starts: Any, rows: Any) -> Any:
        asked.append(len(observations))
        return np.zeros(len(observations), int), None

    episodes = play(batch, acts, lambda: None, lambda index, _: seen.append(index))
    assert [(episode.reward, episode.steps) for episode in episodes] == [(5.0, 5), (2.0, 2), (8.0, 8)]
    assert (Lives.steps, [seen.count(index) for index in range(3)]) == (15, [5, 2, 8])
    assert asked == [3, 3, 2, 2, 2, 1, 1, 1], "nor is the policy asked about them"


def test_an_episode_that_a_wrapper_around_the_monitor_cuts_is_over() -> None:
    batch = Episodes([lambda: gym.wrappers.TimeLimit(env_state.EpisodeMonitor(Lives()), 4)], [9])
    [episode] = play(batch, lambda seen, *_: (np.zeros(len(seen), int), None), lambda: None)
    assert (episode.reward, episode.steps) == (4.0, 4)
