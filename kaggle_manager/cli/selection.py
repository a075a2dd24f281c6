"""The options that name a training tree and its run: declared once, handed to a command as one value.

A command takes them by a parameter whose type is a `Selection`; `as_command` puts the options of its fields in the
place of that parameter, where Typer reads them.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from kaggle_manager.cli.common import (
    LimitOption,
    MaxSessionsOption,
    NamedSection,
    PlatformOption,
    QuickOption,
    QuotaOption,
    ScenarioOption,
    SectionArgument,
    SeedOption,
    SeedsOption,
    TimestepsOption,
    WorkdirOption,
    errors_as_messages,
    the_only_section,
)
from kaggle_manager.errors import ConfigError

if TYPE_CHECKING:
    from kaggle_manager.config import RunConfig
    from kaggle_manager.console.reporter import Reporter
    from kaggle_manager.orchestrator.manager import ValidationKaggleManager


_METAVARS: dict[Any, str] = {int: "N", float: "N", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Selection:
    """Every value that can name a run, in the order of `--help`.

    A command offers those that its own subclass annotates with an option; the others keep their defaults.
    """

    section: str
    scenario: str | None = None
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
        from kaggle_manager.config import build_config

        given = {**asdict(self), **overrides}
        return build_config(**{name: value for name, value in given.items() if name not in ("seeds", "max_sessions")})

    def manager(self, reporter: Reporter) -> ValidationKaggleManager:
        """The manager of the run."""
        from kaggle_manager.orchestrator.manager import ValidationKaggleManager
        from kaggle_manager.sections.project import find_project

        project = find_project(Path.cwd(), self.section)
        return ValidationKaggleManager(
            platform=self.platform, workdir=self.workdir, project_root=project, reporter=reporter
        )


@dataclass(frozen=True)
class TreeOf(Selection):
    """The training tree of a section."""

    section: SectionArgument = ""
    scenario: ScenarioOption = None
    seed: SeedOption = None
    quick: QuickOption = False
    workdir: WorkdirOption = None


@dataclass(frozen=True)
class RunOf(TreeOf):
    """The same, for a command that asks the platform."""

    platform: PlatformOption = None


@dataclass(frozen=True)
class Training(RunOf):
    """A run to carry on, and how far."""

    timesteps: TimestepsOption = None
    session_limit: LimitOption = None
    quota_per_week: QuotaOption = None
    seeds: SeedsOption = None
    max_sessions: MaxSessionsOption = None

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seed is not None:
            raise ConfigError(
                "--seeds and --seed exclude each other.", safe="nothing was started", next_step="give one of them"
            )
        if self.max_sessions is not None and self.seeds is None:
            raise ConfigError(
                "--max-sessions needs --seeds: it limits how many runs of a campaign go at once.",
                safe="nothing was started",
                next_step="add --seeds N, or leave out --max-sessions",
            )

    def members(self) -> list[RunConfig]:
        """The run that is meant; with `--seeds` those of the campaign."""
        from kaggle_manager.orchestrator.campaign import seeds_of

        config = self.config()
        return [config] if self.seeds is None else [self.config(seed=seed) for seed in seeds_of(config, self.seeds)]


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
    offered = _section_first(offered)
    may_be_left_out = any(each.annotation == SectionArgument for each in offered)

    @functools.wraps(function)
    def command(**given: Any) -> None:
        with errors_as_messages(as_json=given.get("as_json", False)):
            if may_be_left_out:
                given["section"] = given["section"] or the_only_section()
            for name, kind in selections.items():
                given[name] = kind(**{option.name: given.pop(option.name) for option in _options(kind)})
            function(**given)

    command.__doc__ = _copyable(function.__doc__ or "")
    offered = [_with_metavar(each) for each in offered]
    command.__signature__ = inspect.Signature(offered)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in offered}
    return command


def _with_metavar(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter whose value the help names as docs/cli.md does: N, TEXT, PATH, a choice, or the argument's name."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *extras = get_args(parameter.annotation)
    types = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    if len(types) == 1 and get_args(types[0]):  # list[str] | None, tuple[str, str] | None
        types = list(get_args(types[0]))

    def named(extra: Any) -> Any:
        is_argument = isinstance(extra, ArgumentInfo)
        if not (is_argument or isinstance(extra, OptionInfo)) or extra.metavar:
            return extra
        extra = copy.copy(extra)
        if is_argument:
            extra.metavar = parameter.name.upper()
        elif inspect.isclass(types[0]) and issubclass(types[0], StrEnum):
            extra.metavar = f"[{'|'.join(types[0])}]"
        elif all(each in _METAVARS for each in types):
            extra.metavar = " ".join(_METAVARS[each] for each in types)
        return extra

    return parameter.replace(annotation=Annotated[(kind, *map(named, extras))])


def _section_first(offered: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """With the section as first argument, which must be given where another argument must follow it."""
    others = [each for each in offered if each.name != "section" and each.default is inspect.Parameter.empty]
    if any(isinstance(extra, ArgumentInfo) for each in others for extra in get_args(each.annotation)[1:]):
        offered = [
            each.replace(annotation=NamedSection, default=inspect.Parameter.empty)
            if each.annotation == SectionArgument
            else each
            for each in offered
        ]
    return sorted(offered, key=lambda each: each.name != "section")


def _copyable(text: str) -> str:
    """A docstring whose examples `--help` shows as they are, a line each and never wrapped."""
    purpose, title, examples = inspect.cleandoc(text).partition("\n\nExample")
    heading, _, lines = examples.partition("\n\n")
    shown = "\n".join(f"  {line.strip()}" for line in lines.splitlines() if line.strip())
    return f"{purpose}{title}{heading}\n\n\b\n{shown}" if title else purpose


def _options(kind: type[Selection]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if get_origin(hints[field.name]) is Annotated:
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )
