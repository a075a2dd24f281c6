"""The tables of an agent's scenario in section.toml, see `model.ScenarioConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from kaggle_manager.sections.fields import Frozen


class Evaluation(Frozen):
    """How the best model is chosen: `episodes` episodes `every` timesteps (absent: adaptive), greedy or sampled."""

    episodes: PositiveInt = 10
    every: PositiveInt | None = None
    deterministic: bool = True


class Divergence(Frozen):
    """When a training has run away although every number is finite: an evaluation's mean return below `reward_below`.

    What is not finite is always noticed. A quick run, whose policy has learned nothing, is not judged by a return.
    """

    reward_below: Annotated[float, Field(allow_inf_nan=False)] | None = None


class Normalize(Frozen):
    """Arguments of `VecNormalize`; `gamma` absent is the algorithm's."""

    norm_obs: bool = True
    norm_reward: bool = True
    clip_obs: PositiveFloat = 10.0
    clip_reward: PositiveFloat = 10.0
    gamma: Annotated[float, Field(ge=0, le=1)] | None = None
    epsilon: PositiveFloat = 1e-8
    norm_obs_keys: list[str] | None = None


class Noise(Frozen):
    """Noise on the actions of an algorithm that takes `action_noise`; `std` for each of them."""

    type: Literal["normal", "ornstein-uhlenbeck"]
    std: NonNegativeFloat


class MonitorKwargs(Frozen):
    """Arguments of `Monitor`; where it writes is the trainer's, `history/monitor.csv`."""

    info_keywords: list[str] = []
    allow_early_resets: bool = True
