"""Evaluation that depends on the policy and the seeds alone, and leaves no trace in the training.

Every evaluation makes its own environments, plays the same seeded episodes as the one before, and puts the random
generators back: whether, when or how often a policy was evaluated never changes what the training does next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
    sync_envs_normalization,
    unwrap_vec_normalize,
)

from kaggle_manager.trainer.sb3 import env_state, random_state

# Keeps evaluation episodes apart from training episodes of the same run.
_SEED_OFFSET = 0x5EED


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: return and length (environment steps) of each episode."""

    returns: list[float]
    lengths: list[int]

    @property
    def score(self) -> float:
        """Mean return; NaN when an episode's return is."""
        return fmean(self.returns) if self.returns else math.nan


@dataclass(frozen=True)
class Evaluator:
    """Plays `episodes` seeded episodes with a model's policy.

    Attributes:
        factory: makes one environment.
        mode: how the environment is made exact (its episodes' seeds depend on it).
        seed: the run's seed.
        episodes: how many episodes.
        deterministic: greedy actions instead of sampled ones.
        wrap: what is put around the vectorised environment, as in the training.
    """

    factory: env_state.EnvFactory
    mode: env_state.Mode
    seed: int
    episodes: int
    deterministic: bool = True
    wrap: Callable[[VecEnv], VecEnv] | None = None

    def __call__(self, model: BaseAlgorithm, each_step: Callable[[], None]) -> Evaluation:
        """Evaluate; the model and all random generators are left as they were, also when `each_step` raises."""
        training: Any = model.get_env()
        # Environments of one class may share its spaces, so those played here would seed those of the training.
        spaces = (model.action_space, training.unwrapped.observation_space)
        generators = [env_state.space_rng(space) for space in spaces]
        with random_state.preserved():
            # Policies that sample their actions draw from these.
            set_random_seed(self.seed, using_cuda=model.device.type == "cuda")
            model.action_space.seed(self.seed)
            vec = self._environment(model)
            try:
                returns, lengths = evaluate_policy(
                    model,
                    vec,
                    self.episodes,
                    deterministic=self.deterministic,
                    callback=lambda *_: each_step(),
                    return_episode_rewards=True,
                )
            finally:
                vec.close()
                for space, states in zip(spaces, generators, strict=True):
                    env_state.set_space_rng(space, states)
        assert isinstance(returns, list)
        assert isinstance(lengths, list)
        return Evaluation([float(value) for value in returns], [int(value) for value in lengths])

    def _environment(self, model: BaseAlgorithm) -> VecEnv:
        vec = env_state.make_vec_env(self.factory, self.mode, (self.seed + _SEED_OFFSET) % 2**31)
        if self.wrap is not None:
            vec = self.wrap(vec)
        training: Any = model.get_env()
        if is_vecenv_wrapped(training, VecTransposeImage) and not is_vecenv_wrapped(vec, VecTransposeImage):
            vec = VecTransposeImage(vec)
        normalize = unwrap_vec_normalize(vec)
        if isinstance(normalize, VecNormalize):
            normalize.training = False
            normalize.norm_reward = False
            sync_envs_normalization(training, vec)
        return vec
