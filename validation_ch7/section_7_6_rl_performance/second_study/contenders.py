"""Who is compared: every baseline with the parameters that were chosen for it, by name.

Promises: a contender's `identity` tells any two apart; parameters are read from what `development.py` kept, and one
that was not chosen yet is a `ConfigError`, never a default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.second_study import controllers
from validation_ch7.section_7_6_rl_performance.second_study.controllers import Controller

KEPT = Path(__file__).resolve().parent / "development"

RULES: dict[str, Callable[..., Controller]] = {
    "fixed_time": controllers.FixedTime,
    "fixed_time_tuned": controllers.FixedTime,
    "actuated": controllers.Actuated,
    "sotl": controllers.SelfOrganizing,
    "longest_queue": controllers.LongestQueue,
    "greedy_queue": controllers.GreedyQueue,
    "max_pressure": controllers.MaxPressure,
    "advanced_max_pressure": controllers.AdvancedMaxPressure,
    "random": controllers.Random,
}
"""Every baseline, in the order of the tables."""


@dataclass(frozen=True)
class Contender:
    """Something that controls an intersection.

    Attributes:
        name: one of `RULES`, or `model` for a trained one.
        make: makes the controller.
        content: what tells two contenders of one name apart; JSON values.
    """

    name: str
    make: Callable[[], Controller]
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Name and content, as JSON values."""
        return {"name": self.name, **self.content}


def contender(name: str, parameters: Mapping[str, Any]) -> Contender:
    """A baseline with these parameters."""
    return Contender(name, lambda: RULES[name](**parameters), {"parameters": dict(parameters)})


def baselines(site: Intersection, kept: Path = KEPT) -> list[Contender]:
    """Every baseline for one intersection, in the order of the tables.

    Raises:
        ConfigError: the parameters of one have not been chosen for this intersection.
    """
    return [contender(name, parameters_of(name, site, kept)) for name in RULES]


def parameters_of(name: str, site: Intersection, kept: Path = KEPT) -> dict[str, Any]:
    """The parameters of a baseline: none, those of the shipped plan, or those that were chosen for `site`."""
    if name in ("greedy_queue", "random"):
        return {}
    if name == "fixed_time":
        return {"greens_s": [round(green) for green in site.green_durations_s]}
    try:
        found: dict[str, Any] = json.loads((kept / f"baselines_{site.name}.json").read_bytes())["chosen"][name]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The parameters of {name} for {site.name} have not been chosen yet.",
            next_step="python -m validation_ch7.section_7_6_rl_performance.second_study.development baselines",
        ) from error
    return found
