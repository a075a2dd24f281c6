"""How the results of this section are judged: the `[study]` table of section.toml, declared before any training; and
the `[remarks]`, which judge nothing.

Promises: what is declared is complete and consistent, or a `ConfigError` names what is not; a verdict follows from the
numbers and the declaration alone.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import Section

Share = Annotated[float, Field(gt=0, lt=1)]
Verdict = Literal["better", "no difference", "worse"]
Model = TypeVar("Model", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SeedRange(_Frozen):
    """`count` consecutive seeds from `first`."""

    first: Annotated[int, Field(ge=0)]
    count: PositiveInt


class Protocol(_Frozen):
    """The declaration; delays in seconds a trip.

    Attributes:
        training_seeds: a scenario is trained once with each.
        held_out_seeds: traffic of the evaluation, the same for every controller.
        margin_s: a difference of mean delay that does not exceed this is none.
        confidence, resamples: of the bootstrap intervals.
        gridlock_completed_below: share of the demand that has to get through, or the episode was gridlocked.
        reproduction_tolerance: relative deviation from a published delay that counts as agreement.
        published: intersection -> controller -> published mean delay.
    """

    training_seeds: Annotated[list[int], Field(min_length=1)]
    held_out_seeds: SeedRange
    margin_s: PositiveFloat
    confidence: Share
    resamples: PositiveInt
    gridlock_completed_below: Share
    reproduction_tolerance: Share
    published: dict[str, dict[str, PositiveFloat]] = {}

    def seeds(self, episodes: int | None = None) -> list[int]:
        """The held-out seeds, or the first `episodes` of them."""
        count = self.held_out_seeds.count if episodes is None else min(episodes, self.held_out_seeds.count)
        return [self.held_out_seeds.first + number for number in range(count)]

    def verdict(self, low: float, high: float, gridlocked: float, gridlocked_baseline: float) -> Verdict:
        """Whether the agent beats a baseline.

        Args:
            low, high: confidence interval of the agent's mean delay minus the baseline's.
            gridlocked, gridlocked_baseline: shares of gridlocked episodes.
        """
        if high < -self.margin_s and gridlocked <= gridlocked_baseline:
            return "better"
        if low > self.margin_s and gridlocked >= gridlocked_baseline:
            return "worse"
        return "no difference"


class Text(_Frozen):
    """A sentence in the languages of the report."""

    fr: str
    en: str


class Remarks(_Frozen):
    """What the report adds in words, if the numbers ask for it.

    Attributes:
        differences: intersection -> controller -> why its delay may differ from the published one.
    """

    differences: dict[str, dict[str, Text]] = {}


def read_protocol(section: Section) -> Protocol:
    """The section's declaration.

    Raises:
        ConfigError: it is missing or says something that is not accepted.
    """
    return _read(Protocol, section, "study")


def read_remarks(section: Section) -> Remarks:
    """The section's remarks.

    Raises:
        ConfigError: they say something that is not accepted.
    """
    return _read(Remarks, section, "remarks")


def _read(model: type[Model], section: Section, table: str) -> Model:
    try:
        return model.model_validate(getattr(section, table))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (table, *first["loc"]))
        raise ConfigError(
            f"section.toml of {section.name}: {where}: {first['msg']}",
            safe="nothing was started.",
            next_step=f"correct the [{table}] table and run the command again.",
        ) from error
