"""What is wrong with a section.toml, in words: the key, what was given, what is accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import like
from kaggle_manager.sections.values import Refused

NAME = r"^[a-z][a-z0-9_]*$"
CALLABLE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
PINNED = r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[\w,-]+\])?==[A-Za-z0-9.!+_-]+$"
DURATION = r"^(\d+(\.\d+)?(min|h|m|s))+$"
_IN_WORDS = {
    NAME: "a lower-case name such as traffic_light_control",
    CALLABLE: "module:callable",
    PINNED: "a pinned package, name==version",
    DURATION: "a duration such as 20h or 90m",
}

_KINDS_BY = ("script", "environment", "build")
"""Of these keys, one says of what kind a scenario is."""


def listed(names: Iterable[str]) -> str:
    """Names, for a line that says what is accepted."""
    return ", ".join(sorted(names)) or "(none)"


def refused(path: Path, problems: list[str]) -> ConfigError:
    """The error for the `section.toml` at `path`."""
    text = f"{path}: {problems[0]}" if len(problems) == 1 else "\n  ".join([f"{path}:", *problems])
    return ConfigError(text, safe="nothing was started.", next_step=f"correct {path} and run the command again.")


def problems(error: ValidationError, model: type[BaseModel], kinds: Mapping[str, type[BaseModel]]) -> list[str]:
    """One line for each error; one alone for a scenario whose kind cannot be told, for its key has a slip."""
    slips: dict[str, str] = {}
    for detail in error.errors():
        match detail["loc"], detail["type"], detail["input"]:
            case ("scenarios", str(name), _, "environment"), "missing", dict(table):
                unknown = [key for key in table if not any(key in kind.model_fields for kind in kinds.values())]
                for meant in _KINDS_BY:
                    if not table.keys() & set(_KINDS_BY) and (given := difflib.get_close_matches(meant, unknown, n=1)):
                        slips.setdefault(name, f"scenarios.{name}.{given[0]}: did you mean {meant}?")
    others = [
        detail
        for detail in error.errors()
        if detail["loc"][:1] != ("scenarios",) or not {*detail["loc"][1:2]} & slips.keys()
    ]
    return [*slips.values(), *(in_words(detail, model, kinds) for detail in others)]


def in_words(detail: ErrorDetails, model: type[BaseModel], kinds: Mapping[str, type[BaseModel]]) -> str:
    """One line for one pydantic error: key, what was given, what is accepted.

    Args:
        model: of the whole. kinds: of its scenarios, by the tags that pydantic gives them.
    """
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith("["))
    kind = detail["type"]
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, Refused):
        key = ".".join(filter(None, (key, error.below)))
        return f"{key}: given {error.given!r}; accepted: {error.accepted}"
    if kind == "extra_forbidden":
        parent = _model_at(model, detail["loc"][:-1], kinds)
        known = [*(parent.model_fields if parent else []), *(["extends"] if parent in kinds.values() else [])]
        accepted = listed(known) if parent else "nothing here"
        if other := _kind_with(key.rpartition(".")[2], parent, kinds):
            return f"{key}: is a key of a scenario {other}; accepted here: {accepted}"
        close = like(key.rpartition(".")[2], known)
        hint = f"did you mean {close}?" if close else f"accepted here: {accepted}"
        return f"{key}: is not a key of this file; {hint}"
    if kind == "missing":
        return f"{key}: is required and was not given"
    message = re.sub(r"^(Value error, |Input )", "", detail["msg"]).removeprefix("should be ")
    if kind == "string_pattern_mismatch":
        message = _IN_WORDS.get(detail.get("ctx", {}).get("pattern", ""), message)
    return f"{key}: given {detail['input']!r}; accepted: {message}" if key else message


def _kind_with(key: str, parent: type[BaseModel] | None, kinds: Mapping[str, type[BaseModel]]) -> str:
    """In words, the other kind of scenario, where that has the key; else ''."""
    others = (kind for kind in kinds.values() if parent in kinds.values() and kind is not parent)
    other = next((kind for kind in others if key in kind.model_fields), None)
    return "" if other is None else f"with{'out' * ('script' not in other.model_fields)} `script`"


def _model_at(
    model: type[BaseModel], loc: tuple[int | str, ...], kinds: Mapping[str, type[BaseModel]]
) -> type[BaseModel] | None:
    """The model that validates the table at `loc`, walking `Section.scenarios.<name>.quick` and the like."""
    current: Any = model
    for part in loc:
        if part in kinds:
            current = kinds[str(part)]
        elif isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
            if isinstance(current, UnionType):  # Model | None
                current = current.__args__[0]
        else:
            current = getattr(current, "__args__", (None, None))[-1]  # dict[Name, Model] -> Model
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
