"""What the keys of section.toml are made of, and what a scenario of either kind has."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints

from kaggle_manager.sections.inputs import is_input
from kaggle_manager.sections.mistakes import CALLABLE, DURATION, NAME, PINNED
from kaggle_manager.sections.values import without_nan

Table = Annotated[dict[str, JsonValue], AfterValidator(without_nan)]


def inside_its_folder(text: str) -> str:
    """A relative path, written with forward slashes, that cannot climb out or name a drive."""
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text:
        raise ValueError("a relative path with forward slashes that stays inside its folder")
    return str(path)


def of_platforms(given: object) -> object:
    """What platforms are to know, each in a table by its name."""
    if not isinstance(given, dict):
        raise ValueError("tables such as [platform.slurm]; --platform or KM_PLATFORM says which one is used")
    if unknown := [name for name in given if name != "slurm" and not re.fullmatch(CALLABLE, str(name))]:
        raise ValueError(f'"slurm" or "module:Class", and not {unknown[0]!r}')
    return given


RelativePath = Annotated[str, AfterValidator(inside_its_folder)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
EntryPoint = Annotated[str, StringConstraints(pattern=CALLABLE)]
PinnedPackage = Annotated[str, StringConstraints(pattern=PINNED)]
Duration = Annotated[str, StringConstraints(pattern=DURATION)]
Platforms = Annotated[dict[str, Table], BeforeValidator(of_platforms)]
InputText = Annotated[str, AfterValidator(is_input)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Frozen(BaseModel):
    """A table: it has these keys and no others, and a value is what its key says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StopWhen(Frozen):
    """When a run is over before its target: its sessions have lasted `session_hours` together."""

    session_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class AgentStopWhen(StopWhen):
    """Also when the mean return of an evaluation is `reward` or more, for the first time in a run."""

    reward: Annotated[float, Field(allow_inf_nan=False)] | None = None


class Scenario(Frozen):
    """One thing to train, of either kind: an agent (`model.ScenarioConfig`) or a script (`script.ScriptScenario`).

    `models` is the training tree, relative to the section's folder. `seed` absent means unseeded. `inputs` is data of
    the platform that it reads besides what the section's own `inputs` name, see `sections.inputs`.
    """

    seed: Seed | None = None
    models: RelativePath
    inputs: list[InputText] = []

    def for_seed(self, seed: int) -> Self:
        """The same training under another seed, in a training tree of its own; itself for its own seed."""
        if seed == self.seed:
            return self
        return self.model_copy(update={"seed": seed, "models": f"{self.models}_seed_{seed}"})
