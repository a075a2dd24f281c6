"""What the second study declares before anything declared is trained: `declaration.toml`.

Promises: what is declared is complete and consistent, or a `ConfigError` names what is not. A draft is read like a
declaration and says that it is one.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance.protocol import SeedRange, Share

FILE = Path(__file__).resolve().parents[1] / "declaration.toml"

WAYS = ("none", "latest", "latest_buffer", "exact", "whole")
"""Of saving, in the ablation of the checkpoint system: see `kept/ablation.py`."""

Names = Annotated[list[str], Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Agent(_Frozen):
    """A learnt method.

    Attributes:
        scenarios: site -> the scenario of section.toml that is trained there.
        training_seeds: each scenario is trained once with each.
    """

    scenarios: dict[str, str]
    training_seeds: Annotated[list[int], Field(min_length=1)]


class Traffic(_Frozen):
    """What the controllers are judged by.

    Attributes:
        held_out: traffic seeds that no training and no choice has seen; every controller plays all of them, an agent's
            trainings by turns.
        shifted_episodes: how many of them are played in each of `conditions`, too.
    """

    held_out: SeedRange
    shifted_episodes: PositiveInt
    conditions: list[str]

    def seeds(self, condition: str) -> list[int]:
        """The seeds that each controller plays under a condition."""
        count = self.shifted_episodes if condition in self.conditions else self.held_out.count
        return list(range(self.held_out.first, self.held_out.first + count))


class Ablation(_Frozen):
    """What the checkpoint system is compared by: the same training under the same kills, four ways of saving.

    Attributes:
        scenario, timesteps: what is trained, and how far.
        training_seeds: each way is trained once with each.
        save_every: timesteps from one save to the next.
        session_decisions: decisions that a session plays before it is killed.
        sessions: after so many, what is not finished is given up.
        traffic: what the final models are judged by.
    """

    scenario: str
    timesteps: PositiveInt
    training_seeds: Annotated[list[int], Field(min_length=1)]
    save_every: PositiveInt
    session_decisions: PositiveInt
    sessions: PositiveInt
    traffic: SeedRange


class Judgement(_Frozen):
    """How results become verdicts.

    Attributes:
        model: which model of a training is judged.
        margin_s: a difference of mean delay that does not exceed this does not matter, in seconds a trip.
        gridlock_margin: likewise, of the share of gridlocked episodes.
        confidence, resamples: of the intervals.
        baselines: what the main agent is compared with at each site, in the order of the tables.
    """

    model: Literal["best", "final"]
    margin_s: PositiveFloat
    gridlock_margin: Share
    confidence: Share
    resamples: PositiveInt
    baselines: Names


class Declaration(_Frozen):
    """The whole of it.

    Attributes:
        sha256: of the file, so that a later change shows.
    """

    status: Literal["draft", "declared"]
    agents: dict[str, Agent]
    traffic: Traffic
    judgement: Judgement
    ablation: Ablation
    sha256: str

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        seeds = [seed for agent in self.agents.values() for seed in agent.training_seeds]
        if len(seeds) != len(set(seeds)):
            raise ValueError("a training seed is declared twice")
        if "main" not in self.agents:
            raise ValueError("there is no agent called main, which is the one that is judged")
        if self.traffic.shifted_episodes > self.traffic.held_out.count:
            raise ValueError("more episodes are declared for a condition than there are held-out seeds")
        if self.traffic.shifted_episodes < max(len(agent.training_seeds) for agent in self.agents.values()):
            raise ValueError("fewer episodes are declared for a condition than an agent has trainings")
        return self

    def traffic_seeds(self, condition: str, controller: str, training: int | None) -> list[int]:
        """The seeds that a baseline, or one training of an agent, plays under a condition.

        The trainings of an agent take turns, so that each meets traffic from the whole range, and all of them together
        meet what a baseline meets.
        """
        seeds = self.traffic.seeds(condition)
        if training is None:
            return seeds
        trainings = self.agents[controller].training_seeds
        return seeds[trainings.index(training) :: len(trainings)]

    @property
    def sites(self) -> list[str]:
        """The intersections, in the order of the tables."""
        return list(self.agents["main"].scenarios)


def read_declaration(file: Path = FILE) -> Declaration:
    """The declaration of the second study.

    Raises:
        ConfigError: it is missing or says something that is not accepted.
    """
    try:
        content = file.read_bytes()
        body = tomllib.loads(content.decode("utf-8"))
        return Declaration.model_validate({**body, "sha256": hashlib.sha256(content).hexdigest()})
    except OSError as error:
        raise ConfigError(f"The declaration cannot be read: {error}", safe="nothing was started.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise _refused(file, f"{where}: {first['msg']}") from error
    except ValueError as error:  # no TOML, or no text
        raise _refused(file, str(error)) from error


def _refused(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{file.name}: {why}", safe="nothing was started.", next_step="correct the file and run the command again."
    )
