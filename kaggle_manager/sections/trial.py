"""A trial of a sweep: a scenario of its own, which is another one with some of its values changed.

Its name is that of the scenario and its number, and so is its training tree; what it trains is in its launch order, and
on this machine in the file of its sweep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, NonNegativeInt, ValidationError

from kaggle_manager.errors import UPDATE, StorageError
from kaggle_manager.sections.fields import Frozen, Name, Table
from kaggle_manager.sections.hyperparameters import NAMES, unknown
from kaggle_manager.sections.mistakes import listed, refused
from kaggle_manager.sections.model import SECTION_FILE, AnyScenario, ScenarioConfig, Section
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sections.sweep import REWARD, Sweep
from kaggle_manager.sections.values import Refused, merged

STUDY_FILE, STUDY_SCHEMA = "study.json", 1
_NAME = re.compile(r"(?P<of>[a-z][a-z0-9_]*)_trial_(?P<number>\d+)")
# What of an agent a sweep may change; the first part of a key.
OF_AN_AGENT = ("hyperparameters", "environment_kwargs", "normalize", "noise", "n_envs", "frame_stack")
OF_A_SCRIPT = "arguments"


class Trial(Frozen):
    """One trial: number `number` of the scenario `of`, with `values` by their keys in it."""

    of: Name
    number: NonNegativeInt
    values: Table

    @property
    def name(self) -> str:
        """Of its scenario."""
        return f"{self.of}_trial_{self.number}"

    def scenario(self, section: Section) -> AnyScenario:
        """What it trains.

        Raises:
            ConfigError: section.toml has no such scenario any more, or one that does not accept these values.
        """
        try:
            own = changed(section.scenario(self.of), self.values)
        except Refused as wrong:
            text = f"trial {self.number} of {self.of}: {wrong.below}: given {wrong.given!r}; accepted: {wrong.accepted}"
            raise refused(section.folder / SECTION_FILE, [text]) from None
        suffix = f"_trial_{self.number}"
        quick = own.quick.model_copy(update={"models": own.quick.models + suffix})
        return own.model_copy(update={"models": own.models + suffix, "quick": quick})

    def added_to(self, section: Section) -> Section:
        """`section` with its scenario as one more."""
        return section.model_copy(update={"scenarios": {**section.scenarios, self.name: self.scenario(section)}})


def study_folder(state: Path, section: str) -> Path:
    """Where the sweep of a section is written down."""
    return state / "sweeps" / section


def state_of_study(folder: Path) -> Path:
    """The state folder that a sweep's folder is in."""
    return folder.parent.parent


def find_trial(state: Path, section: str, scenario: str) -> Trial | None:
    """The trial that a scenario's name means; None where there is none of that name.

    Raises:
        StorageError: the file of its sweep cannot be read.
    """
    named, file = _NAME.fullmatch(scenario), study_folder(state, section) / STUDY_FILE
    if named is None or not file.is_file():
        return None
    try:
        said = json.loads(file.read_bytes())
        if said["schema"] > STUDY_SCHEMA:
            raise StorageError(
                f"{file} was written by a later version of kaggle-manager (schema {said['schema']}; this one reads "
                f"{STUDY_SCHEMA}).",
                safe="the training trees",
                next_step=UPDATE,
            )
        trials = said["trials"]
        values = next((each["values"] for each in trials if each["number"] == int(named["number"])), None)
        return None if values is None else Trial(of=named["of"], number=int(named["number"]), values=values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{file} cannot be read: {error}.",
            safe="the training trees",
            next_step="restore it from a copy; without it the trials of this sweep have no values",
        ) from error


def changed(scenario: AnyScenario, values: Mapping[str, JsonValue]) -> AnyScenario:
    """A scenario with other values.

    Raises:
        Refused: a value is not accepted, or there is no such key.
    """
    if isinstance(scenario, ScriptScenario):
        arguments = list(scenario.arguments)
        for key, value in values.items():
            _set_argument(arguments, key, value)
        return scenario.model_copy(update={"arguments": arguments})
    table: dict[str, Any] = scenario.model_dump()
    for key, value in values.items():
        _check_key(scenario, key)
        table = merged(table, _nested(key, value))
    try:
        return ScenarioConfig.model_validate(table)
    except ValidationError as error:
        detail = error.errors()[0]
        said = detail.get("ctx", {}).get("error")
        key = ".".join(map(str, detail["loc"])) or next(iter(values), "")
        if isinstance(said, Refused):
            raise Refused(".".join(filter(None, (key, said.below))), said.given, said.accepted) from None
        raise Refused(key, detail["input"], detail["msg"]) from None


def check_sweep(section: Section, sweep: Sweep) -> None:
    """Refuse a sweep that cannot be: of values its scenario does not have or does not take, or by no metric of it.

    Raises:
        ConfigError: see there.
    """
    try:
        _check(section, sweep)
    except Refused as wrong:
        text = f"sweep.{wrong.below}: given {wrong.given!r}; accepted: {wrong.accepted}"
        raise refused(section.folder / SECTION_FILE, [text]) from None


def _check(section: Section, sweep: Sweep) -> None:
    name = sweep.scenario or section.default_scenario
    scenario = section.scenarios.get(name or "")
    if scenario is None:
        raise Refused("scenario", name, listed(section.scenarios))
    if sweep.rungs and sweep.rungs[-1] >= scenario.target:
        raise Refused("rungs", sweep.rungs, f"steps below the target, {scenario.target:,}")
    if isinstance(scenario, ScenarioConfig):
        if sweep.metric != REWARD:
            raise Refused("metric", sweep.metric, f"{REWARD}, the mean return of an evaluation, for an agent")
        every = scenario.evaluates_every(scenario.target)
        if every and sweep.rungs and sweep.rungs[0] < every:
            raise Refused("rungs", sweep.rungs, f"steps from the first evaluation on, which is at {every:,}")
    for values in sweep.examples():
        try:
            changed(scenario, values)
        except Refused as wrong:
            raise Refused(f"space.{wrong.below}", wrong.given, wrong.accepted) from None


def _check_key(scenario: ScenarioConfig, key: str) -> None:
    first, _, rest = key.partition(".")
    if first not in OF_AN_AGENT or (not rest and first not in ("n_envs", "frame_stack")):
        raise Refused(key, key, f"a key of an agent: {', '.join(OF_AN_AGENT)}")
    if first == "hyperparameters" and unknown(scenario.algorithm, [rest.partition(".")[0]]):
        raise Refused(key, key, ", ".join(sorted(NAMES[scenario.algorithm])))


def _nested(key: str, value: JsonValue) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _set_argument(arguments: list[str], key: str, value: JsonValue) -> None:
    """Put `value` where the argument has its own: `--name VALUE`, `--name=VALUE` or `name=VALUE`.

    Raises:
        Refused: there is no such argument.
    """
    first, _, name = key.partition(".")
    text = value if isinstance(value, str) else json.dumps(value)
    if first == OF_A_SCRIPT and name:
        for place, word in enumerate(arguments):
            if word in (f"--{name}", f"-{name}") and place + 1 < len(arguments):
                arguments[place + 1] = text
                return
            for begin in (f"--{name}=", f"{name}="):
                if word.startswith(begin):
                    arguments[place] = begin + text
                    return
    raise Refused(
        key, key, f"{OF_A_SCRIPT}.NAME of an argument that the scenario gives: --NAME VALUE, --NAME=VALUE or NAME=VALUE"
    )
