"""`[sweep]` of section.toml: which values of a scenario are tried, and by what they are judged.

    [sweep]
    metric = "reward"
    direction = "maximize"
    trials = 40
    rungs = [10_000, 30_000]

    [sweep.space]
    hyperparameters.learning_rate = { low = 1e-5, high = 1e-2, log = true }
    hyperparameters.n_steps = { low = 64, high = 512, step = 64 }
    environment_kwargs.gravity = { choices = [9.81, 1.62] }

A value is named by its key in the scenario, with dots; an argument of a script by `arguments.NAME`. The distributions
are those of Optuna: `low`, `high`, `log`, `step`, `choices`; a range between whole numbers has whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from kaggle_manager.sections.fields import Frozen, Name, Table
from kaggle_manager.sections.script import Metric
from kaggle_manager.sections.values import Refused, without_nan

REWARD = "reward"
"""The metric of an agent: the mean return of an evaluation."""
_LEAVES = ("low", "high", "choices")
_Number = int | float


class Range(Frozen):
    """Numbers from `low` to `high`, both included; whole ones where every number given is whole."""

    low: _Number
    high: _Number
    log: bool = False
    step: _Number | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refused("", given, "a range with low < high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise Refused("log", True, "a range above zero, and without step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise Refused("step", self.step, "more than 0 and at most high - low")
        return self

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    @property
    def examples(self) -> tuple[JsonValue, ...]:
        """Its ends."""
        return self.low, self.high


class Choices(Frozen):
    """One of these values."""

    choices: Annotated[list[JsonValue], Field(min_length=1)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if any(one in self.choices[:place] for place, one in enumerate(self.choices)):
            raise Refused("choices", self.choices, "values that differ")
        return self

    @property
    def examples(self) -> tuple[JsonValue, ...]:
        """All of them."""
        return tuple(self.choices)


Distribution = Range | Choices


def _flat(space: object) -> object:
    """The space with each key in one piece, however TOML has nested it."""
    return dict(_leaves(space, "")) if isinstance(space, dict) else space


def _leaves(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Distribution]]:
    for name, value in table.items():
        key = f"{above}.{name}" if above else str(name)
        if not isinstance(value, dict):
            raise Refused(key, value, "{ low = ..., high = ... } or { choices = [...] }")
        if any(leaf in value and not isinstance(value[leaf], dict) for leaf in _LEAVES):
            kind = Choices if "choices" in value else Range
            if unknown := value.keys() - kind.model_fields.keys():
                raise Refused(key, sorted(unknown)[0], ", ".join(kind.model_fields))
            try:
                yield key, kind.model_validate(without_nan(value))
            except Refused:
                raise
            except ValueError as error:
                raise Refused(key, value, f"{', '.join(kind.model_fields)} ({_first_line(error)})") from None
        else:
            yield from _leaves(value, key)


def _first_line(error: ValueError) -> str:
    details = error.errors() if hasattr(error, "errors") else []
    said = details[0].get("ctx", {}).get("error") if details else None
    return said.accepted if isinstance(said, Refused) else str(details[0]["msg"] if details else error)


class Sweep(Frozen):
    """What a sweep tries, and how it decides.

    `metric` is `reward` for an agent, and for a script a name that it reports in metrics.jsonl. At each of the `rungs`,
    in steps, a trial pauses until it is decided whether it goes on: with `pruner = "halving"` the best of each
    `reduction` trials do, with "median" the better half, with "none" all of them. `at_once` trials are under way
    before results of earlier ones count.
    """

    scenario: Name | None = None
    metric: Metric
    direction: Literal["minimize", "maximize"]
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["halving", "median", "none"] = "halving"
    reduction: Annotated[int, Field(ge=2)] = 3
    at_once: PositiveInt = 8
    rungs: list[PositiveInt] = []
    trials: PositiveInt
    seed: NonNegativeInt = 0
    space: Annotated[dict[str, Distribution], BeforeValidator(_flat), Field(min_length=1)]

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        if self.rungs != sorted(set(self.rungs)):
            raise Refused("rungs", self.rungs, "steps that rise")
        return self

    def stops(self, target: int) -> tuple[int, ...]:
        """Steps at which a trial towards `target` is judged; the last one is its end."""
        return (*(rung for rung in self.rungs if rung < target), target)

    def examples(self) -> Iterator[Table]:
        """Values that are tried before any trial: each end of each range, and each choice, with the others' first."""
        first = {key: each.examples[0] for key, each in self.space.items()}
        yield first
        for key, each in self.space.items():
            yield from ({**first, key: value} for value in each.examples[1:])
