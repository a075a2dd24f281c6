"""The options that name a training tree and its run: declared once, handed to a command as one value.

A command takes them by a parameter whose type is a `Selection`; `as_command` puts the options of its fields in the
place of that parameter, where Typer reads them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

from kaggle_manager.cli.common import (
    LimitOption,
    MaxSessionsOption,
    PlatformOption,
    QuickOption,
    QuotaOption,
    ScenarioOption,
    SectionArgument,
    SectionOption,
    SeedOption,
    SeedsOption,
    TimestepsOption,
    WorkdirOption,
    errors_as_messages,
)
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.project import find_project

if TYPE_CHECKING:
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager


@dataclass(frozen=True)
class Selection:
    """Every value that can name a run, in the order of `--help`.

    A command offers those that its own subclass annotates with an option; the others keep their defaults.
    """

    section: str
    scenario: str | None = None
    intersection: str | None = None
    timesteps: int | None = None
    session_limit: str | None = None
    quota_per_week: str | None = None
    seed: int | None = None
    seeds: int | None = None
    max_sessions: int | None = None
    quick: bool = False
    platform: str | None = None
    workdir: Path | None = None
    trust: bool = False
    accept_changes: bool = False
    image: str | None = None

    def config(self, **overrides: Any) -> RunConfig:
        """The configuration of the run; `overrides` as the arguments of `build_config`."""
        given = {**asdict(self), **overrides}
        of_campaigns = ("intersection", "seeds", "max_sessions")
        return build_config(**{name: value for name, value in given.items() if name not in of_campaigns})

    def manager(self, reporter: Reporter) -> ValidationKaggleManager:
        """The manager of the run."""
        from kaggle_manager.orchestrator.manager import ValidationKaggleManager

        project = find_project(Path.cwd(), self.section)
        return ValidationKaggleManager(
            platform=self.platform, workdir=self.workdir, project_root=project, reporter=reporter
        )


@dataclass(frozen=True)
class TreeOfArgument(Selection):
    """The training tree of the section that is the first argument."""

    section: SectionArgument
    scenario: ScenarioOption = None
    seed: SeedOption = None
    quick: QuickOption = False
    workdir: WorkdirOption = None


@dataclass(frozen=True)
class RunOfArgument(TreeOfArgument):
    """The same, for a command that asks the platform."""

    platform: PlatformOption = None


@dataclass(frozen=True)
class Training(RunOfArgument):
    """A run to carry on, and how far."""

    timesteps: TimestepsOption = None
    session_limit: LimitOption = None
    quota_per_week: QuotaOption = None
    seeds: SeedsOption = None
    max_sessions: MaxSessionsOption = None

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seed is not None:
            raise ConfigError("--seeds and --seed exclude each other.", next_step="give one of them")
        if self.max_sessions is not None and self.seeds is None:
            raise ConfigError("--max-sessions is about several runs.", next_step="give --seeds with it")

    def members(self) -> list[RunConfig]:
        """The run that is meant; with `--seeds` those of the campaign."""
        from kaggle_manager.orchestrator.campaign import seeds_of

        config = self.config()
        return [config] if self.seeds is None else [self.config(seed=seed) for seed in seeds_of(config, self.seeds)]


@dataclass(frozen=True)
class TreeOfOption(TreeOfArgument):
    """The training tree of the section that an option names."""

    section: SectionOption


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """What Typer makes a command of: `Selection`s as their options, errors as messages (see `errors_as_messages`)."""
    hints = get_type_hints(function, include_extras=True)
    selections = {name: kind for name, kind in hints.items() if inspect.isclass(kind) and issubclass(kind, Selection)}
    offered: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in selections:
            offered += _options(selections[name])
        else:
            offered.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    offered.sort(key=lambda each: each.annotation != SectionArgument)  # the section is the first argument

    @functools.wraps(function)
    def command(**given: Any) -> None:
        with errors_as_messages(as_json=given.get("as_json", False)):
            for name, kind in selections.items():
                given[name] = kind(**{option.name: given.pop(option.name) for option in _options(kind)})
            function(**given)

    command.__signature__ = inspect.Signature(offered)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in offered}
    return command


def _options(kind: type[Selection]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if get_origin(hints[field.name]) is Annotated:
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )
