"""What evaluations take of a training's time, and how often they are to come: measured before it, in a moment of both.

A policy that has learned nothing may end its episodes early. So an evaluation is taken to be as long as it can become:
as the time limit of its episodes. Where they have none, it is as long as was seen, or, of an episode that was not over
then, as one of Atari may be. `init` writes what is `advised` here, and the preflight warns of nothing else.
"""

from __future__ import annotations

import contextlib
import time
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

MOST, ADVISED = 0.1, 0.05
"""Of the time, what evaluations are to stay below, and what is advised: another measurement finds twice as much."""
FEWEST = 5
"""Evaluations of a whole training that an advice leaves."""
NO_LIMIT = "the environment declares no episode limit"
OPEN_EPISODE = 3_000
"""Steps assumed for an episode without a time limit that did not end while it was measured: a trained policy plays a
game of Atari for about that long, which an untrained one may lose at once."""
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
        asked: timesteps between two, as the section or the trainer has it.
        rollout: timesteps between two moments at which there may be one.
        total: timesteps of the training.
        bound: what is known of `evaluation_s`: `at most`, `at least` or `about`.
        why: the same in words; "" for `at most`.
    """

    step_s: float
    evaluation_s: float
    asked: int
    rollout: int
    total: int
    bound: str = "at most"
    why: str = ""

    @property
    def every(self) -> int:
        """Timesteps that two are apart: they come at the ends of rollouts."""
        return max(self.asked, self.rollout)

    @property
    def share(self) -> float:
        """Of the time, if one processor did both."""
        return self.evaluation_s / (self.evaluation_s + self.every * self.step_s)

    @property
    def is_too_much(self) -> bool:
        """Whether there is a better `every`: a number that keeps the share low and leaves several evaluations."""
        return self.share >= MOST and self.advised is not None

    @property
    def advised(self) -> int | None:
        """The smallest of 1, 2, 5, ... times a rollout, or 1,000, seldom enough; None where all are too seldom."""
        least = (1 / ADVISED - 1) * self.evaluation_s / self.step_s
        unit = max(self.rollout, 1_000)
        rounds = (unit * first * 10**exponent for exponent in count() for first in (1, 2, 5))
        enough = next(every for every in rounds if every > least)
        return enough if enough * FEWEST <= self.total else None


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

    longest, bound, why = limit or 0, "at most", ""
    try:
        Evaluator(played_in, "none", SEED, played, scenario.evaluation.deterministic)(model, watched)
    except _Enough:
        if limit is None:
            longest, bound, why = OPEN_EPISODE, "about", f"if an episode takes {OPEN_EPISODE:,} steps, for {NO_LIMIT}"
    else:
        if limit is None:
            bound, why = "at least", f"at least, because {NO_LIMIT}"
    step_s = (time.perf_counter() - starts[0]) / len(starts) * episodes / played
    longest = max(longest, len(starts))
    evaluation_s = made_s * episodes + longest * step_s
    asked, rollout = _every(scenario, longest * episodes), algorithms.rollout_steps(model)
    return EvaluationShare(training.step_s, evaluation_s, asked, rollout, scenario.timesteps, bound, why)


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
