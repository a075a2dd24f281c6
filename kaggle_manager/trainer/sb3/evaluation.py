"""Evaluation that depends on the policy and the seeds alone, and leaves no trace in the training.

Every evaluation makes its own environments, one for each episode, plays the same seeded episodes as the one before, all
at once, and puts the random generators back: whether, when or how often a policy was evaluated never changes what the
training does next.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.trainer.sb3 import acting, env_state, random_state
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.episodes import Acts, Episode, Episodes, play
from kaggle_manager.trainer.sb3.model_file import normalisations
from kaggle_manager.trainer.sb3.state_digest import digest

# Keeps evaluation episodes apart from training episodes of the same run.
_SEED_OFFSET = 0x5EED
AT_ONCE = 16
"""So many episodes are played side by side: each has an environment of its own, with the memory that takes."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: return and length (environment steps) of each episode that counts, and all steps it played."""

    returns: list[float]
    lengths: list[int]
    played: int

    @property
    def score(self) -> float:
        """Mean return; NaN when an episode's return is."""
        return fmean(self.returns) if self.returns else math.nan


@dataclass
class Evaluator:
    """Plays `episodes` seeded episodes with a model's policy.

    Attributes:
        environments: those of an evaluation, with all that the training has around them.
        mode: how the environment is made exact (its episodes' seeds depend on it).
        seed: the run's seed.
        episodes: how many episodes.
        deterministic: greedy actions instead of sampled ones.
        all_alike: every episode is expected to be the same. Two are played then, of which one counts; that they are
            alike is seen each time, and when they are not, all episodes are played.
        statistics: of the training's running normalisations, see `statistics_of`; by default those of the model's own
            environment.
        last_observation: what the policy was shown last in an evaluation that an exception has ended, else None.
    """

    environments: Environments
    mode: env_state.Mode
    seed: int
    episodes: int
    deterministic: bool = True
    all_alike: bool = False
    statistics: bytes = b""
    last_observation: Any = field(default=None, init=False)

    def __call__(self, model: BaseAlgorithm, each_step: Callable[[], None]) -> Evaluation:
        """Evaluate; the model and all random generators are left as they were, also when `each_step` raises."""
        if not self.all_alike or self.episodes == 1:
            return _summed(self._play(model, range(self.episodes), each_step))
        shown: tuple[list[str], list[str]] = ([], [])
        two = self._play(model, range(2), each_step, lambda index, seen: shown[index].append(digest(seen)))
        if shown[0] == shown[1]:
            return Evaluation([two[0].reward], [two[0].steps], sum(episode.steps for episode in two))
        others = self._play(model, range(2, self.episodes), each_step)
        return _summed([*two, *others])

    def _play(
        self,
        model: BaseAlgorithm,
        numbers: range,
        each_step: Callable[[], None],
        shown: Callable[[int, Any], None] = lambda *_: None,
    ) -> list[Episode]:
        """The episodes of these numbers, which their seeds depend on."""

        played: list[Episode] = []
        with no_trace(model):
            # Policies that sample their actions draw from these.
            set_random_seed(self.seed, using_cuda=model.device.type == "cuda")
            model.action_space.seed(self.seed)
            for first in numbers[::AT_ONCE]:
                # As the policy has it: images are turned, observations normalised.
                vec = model._wrap_env(self.environment(numbers[first - numbers[0] :][:AT_ONCE]), monitor_wrapper=False)
                _set_statistics(vec, self.statistics or statistics_of(model.get_env()))
                try:
                    played += play(vec, self._acts(model, vec), each_step, shown)
                finally:
                    env_state.close(vec)
            self.last_observation = None
        return played

    def _acts(self, model: BaseAlgorithm, vec: VecEnv) -> Acts:
        predict = acting.predictor(model, vec)

        def acts(observations: Any, states: Any, starts: Any, rows: Sequence[int]) -> Any:
            self.last_observation = observations
            return predict(observations, states, starts, rows, deterministic=self.deterministic)

        return acts

    def environment(self, numbers: range) -> VecEnv:
        """What the episodes of these numbers are played in."""
        seeds = [(self.seed + _SEED_OFFSET + number) % 2**31 for number in numbers]
        makers = [partial(self.environments.one, self.mode, seed) for seed in seeds]
        return self.environments.around(Episodes(makers, seeds))


@contextmanager
def no_trace(model: BaseAlgorithm) -> Iterator[None]:
    """Leave the random generators of the process and of a model in training as they are, whatever is played inside."""
    training = model.get_env()
    # Environments of one class may share its spaces, so those played here would seed those of the training.
    spaces = [model.action_space, *([] if training is None else [training.unwrapped.observation_space])]
    generators = [env_state.space_rng(space) for space in spaces]
    with random_state.preserved():
        try:
            yield
        finally:
            for space, states in zip(spaces, generators, strict=True):
                env_state.set_space_rng(space, states)


# One that leaves observations as they are has no statistics of them.
_RUNNING = ("obs_rms", "ret_rms")


def statistics_of(vec: VecEnv | None) -> bytes:
    """The running statistics of each `VecNormalize` around environments, outermost first, for `pickle.loads`."""
    found = [{name: it for name, it in vars(layer).items() if name in _RUNNING} for layer in normalisations(vec)]
    return pickle.dumps(found) if found else b""


def _set_statistics(vec: VecEnv, statistics: bytes) -> None:
    """Normalise what is played as the training does, by statistics of this process; nothing of it is counted."""
    known = pickle.loads(statistics) if statistics else []
    for number, layer in enumerate(normalisations(vec)):
        layer.training = layer.norm_reward = False
        if known:
            vars(layer).update(known[number])


def _summed(episodes: list[Episode]) -> Evaluation:
    lengths = [episode.steps for episode in episodes]
    return Evaluation([episode.reward for episode in episodes], lengths, sum(lengths))
