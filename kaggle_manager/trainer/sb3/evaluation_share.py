"""What evaluations take of a training's time, measured before it: a moment of training, and of an evaluation.

A policy that has learned nothing may end its episodes early. So an evaluation is taken to be as long as it can become:
as the time limit of its episodes. Where they have none, as of Atari, what was measured is the least it takes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import algorithms, network_share
from kaggle_manager.trainer.sb3.code_first import Built
from kaggle_manager.trainer.sb3.env_check import Pool
from kaggle_manager.trainer.sb3.environments import Environments, environments_of
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.network_share import NetworkShare
from kaggle_manager.trainer.sb3.training_config import EVALUATION_SHARE, adaptive_evaluate_every, adaptive_save_every

WANTED = 0.1
"""Of the time, what evaluations are to stay below."""
MEASURE_S = 0.4
MADE_S = 2.0
"""Where the environments of an evaluation take longer to make, one is made here, and the others are reckoned."""
SEED = 101


@dataclass(frozen=True)
class EvaluationShare:
    """What was measured.

    Attributes:
        step_s: seconds of a timestep of training.
        evaluation_s: of an evaluation, whose episodes are as long as they can become.
        every: timesteps between two.
        is_least: its episodes have no time limit, so that it may take longer.
    """

    step_s: float
    evaluation_s: float
    every: int
    is_least: bool = False

    @property
    def share(self) -> float:
        """Of the time, if one processor did both."""
        return self.evaluation_s / (self.evaluation_s + self.every * self.step_s)

    @property
    def enough(self) -> int:
        """The smallest of 1,000, 2,000, 5,000, 10,000, ... that keeps the share below what is wanted."""
        least = (1 / WANTED - 1) * self.evaluation_s / self.step_s
        rounds: Iterator[int] = (first * 10**exponent for exponent in count(3) for first in (1, 2, 5))
        return next(every for every in rounds if every > least)


def measure(scenario: ScenarioConfig, pool: Pool | None = None) -> EvaluationShare | None:
    """Train and evaluate a moment; None when no update came within seconds.

    Args:
        pool: environments that are made already.

    Raises:
        Exception: whatever the environment raises, or the algorithm.
    """
    if pool is None:
        with Pool() as pool:
            return measure(scenario, pool)
    trained_in, there = pool.environments(scenario), pool.for_evaluation(scenario)
    training = network_share.measure_share(scenario, trained_in, seconds=MEASURE_S)
    if training is None:
        return None
    with contextlib.closing(there.vectorised("none", SEED)) as vec:
        limit = _time_limit(*vec.get_attr("spec", indices=[0]))
    with contextlib.closing(trained_in.vectorised("none", SEED)) as vec:
        given, _ = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
        model = algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=SEED, device="cpu")
        own = environments_of(scenario).for_evaluation()
        return _played(scenario, training, model, own, pool.longest_s, limit, there)


def measure_built(scenario: ScenarioConfig, built: Built, training: NetworkShare | None) -> EvaluationShare | None:
    """As `measure`, of what a function of the user's has made, of which a moment of training was measured already."""
    if training is None:
        return None
    begun = time.perf_counter()
    vec = built.evaluation.vectorised("none", SEED)
    made_s = time.perf_counter() - begun
    with contextlib.closing(vec):
        limit = _time_limit(*vec.get_attr("spec", indices=[0]))
    return _played(scenario, training, built.model, built.evaluation, made_s, limit)


def _played(
    scenario: ScenarioConfig,
    training: NetworkShare,
    model: BaseAlgorithm,
    own: Environments,
    made_s: float,
    limit: int | None,
    there: Environments | None = None,
) -> EvaluationShare:
    """Evaluate a moment, in environments made as `own`; where making them takes long, in one that is `there`."""
    episodes = scenario.evaluation.episodes
    played = episodes if made_s * episodes < MADE_S else 1
    played_in = there if there and played == 1 else own
    starts: list[float] = []

    def watched() -> None:
        now = time.perf_counter()
        if starts and now - starts[0] > MEASURE_S:
            raise _Enough
        starts.append(now)

    with contextlib.suppress(_Enough):
        Evaluator(played_in, "none", SEED, played, scenario.evaluation.deterministic)(model, watched)
    step_s = (time.perf_counter() - starts[0]) / len(starts) * episodes / played
    longest = max(limit or 0, len(starts))
    evaluation_s = made_s * episodes + longest * step_s
    return EvaluationShare(training.step_s, evaluation_s, _every(scenario, longest * episodes), limit is None)


class _Enough(Exception):
    """Enough was measured."""


def _time_limit(spec: EnvSpec | None) -> int | None:
    return spec.max_episode_steps if spec else None


def _every(scenario: ScenarioConfig, played: int) -> int:
    """Timesteps between two evaluations, also where the section leaves it to the trainer: see `EVALUATION_SHARE`."""
    total = scenario.timesteps
    if stated := scenario.evaluates_every(total):
        return stated
    adaptive = adaptive_evaluate_every(adaptive_save_every(total))
    return max(adaptive, round(played * (1 / EVALUATION_SHARE - 1)))
