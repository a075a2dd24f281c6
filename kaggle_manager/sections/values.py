"""What a value of section.toml stands for where TOML has no form of its own, by its text alone.

    "torch.nn:ReLU"                                     the object of that name in that module
    { "my_module:Wrapper" = { skip = 4 } }              what a call of it with these arguments returns
    "lin_3e-4"   { linear = [3e-4, 0.0] }   { cosine = [3e-4, 0.0] }   { piecewise = [[0.0, 3e-4], [0.5, 1e-4]] }
                                                        a schedule; `piecewise` has pairs of progress done and value
    "dict(net_arch=[64, 64], activation_fn=nn.ReLU)"    a table as RL Baselines3 Zoo writes it

Promises: nothing is imported and nothing is evaluated; what cannot be read is a `Refused` that says what is accepted.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, JsonValue

OBJECT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
"""Hyperparameters that are a number or a schedule."""

AN_OBJECT = "an object as module:Name, such as"
A_SCHEDULE = (
    'a number, "lin_3e-4", { linear = [first, last] }, { cosine = [first, last] }, '
    "{ piecewise = [[progress, value], ...] }, or an object as module:Name"
)
_WRAPPERS = '"module:Class", { "module:Class" = { argument = value } }, or a list of these'
_OBJECTS = {
    "activation_fn": "torch.nn:ReLU",
    "optimizer_class": "torch.optim:AdamW",
    "features_extractor_class": "my_module:MyExtractor",
    "replay_buffer_class": "stable_baselines3:HerReplayBuffer",
    "rollout_buffer_class": "my_module:MyRolloutBuffer",
    "action_noise": "my_module:NOISE; the key `noise` of the scenario makes the usual ones",
}
"""Arguments that want an object of Python, and an example of each."""

_SCHEDULES = ("linear", "piecewise", "cosine")
_LINES_OF_A_COSINE = 256
"""A cosine is that many straight lines, which are nowhere further from it than 1e-5 of its height."""

# What the Zoo's text may name: modules, and objects that it has imported.
_MODULES = {"nn": "torch.nn", "th": "torch", "torch": "torch"}
_NAMED = {
    "HerReplayBuffer": "stable_baselines3:HerReplayBuffer",
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like:RMSpropTFLike",
}
_IS_ZOO = re.compile(r"\s*(dict\s*\(|\{)")


class Refused(ValueError):
    """A value that is not accepted.

    Attributes:
        below: its key below the one that is being read; '' for that one.
        given: the value.
        accepted: in words.
    """

    def __init__(self, below: str, given: object, accepted: str) -> None:
        super().__init__(accepted)
        self.below, self.given, self.accepted = below, given, accepted


# --- forms ------------------------------------------------------------------------------------------------------------


def is_object(value: object) -> bool:
    """Whether it is a text that stands for an object."""
    return isinstance(value, str) and OBJECT.fullmatch(value) is not None


def called(value: object) -> tuple[str, Mapping[str, Any]] | None:
    """The object and the arguments of a table that stands for a call; None for any other value."""
    if isinstance(value, Mapping) and len(value) == 1:
        [(name, arguments)] = value.items()
        if is_object(name) and isinstance(arguments, Mapping):
            return str(name), arguments
    return None


def points_of(value: object) -> list[tuple[float, float]] | None:
    """A schedule as pairs of progress done and value, with straight lines between; None for what is no schedule.

    Raises:
        Refused: it is one, and is not written as one.
    """
    if isinstance(value, str) and value.startswith("lin_"):
        try:
            return [(0.0, _number(float(value.removeprefix("lin_")))), (1.0, 0.0)]
        except ValueError:
            raise Refused("", value, A_SCHEDULE) from None
    if not isinstance(value, Mapping) or len(value) != 1 or not value.keys() & {*_SCHEDULES}:
        return None
    [(kind, given)] = value.items()
    try:
        if kind == "piecewise":
            points = [(_number(done), _number(then)) for done, then in given]
            done = [each for each, _ in points]
            if len(points) < 2 or done[0] < 0 or done[-1] > 1 or any(b <= a for a, b in itertools.pairwise(done)):
                raise ValueError
            return points
        first, last = map(_number, given)
    except (TypeError, ValueError):
        accepted = f"{{ {kind} = [first, last] }}, two numbers"
        if kind == "piecewise":
            accepted = "{ piecewise = [[progress, value], ...] }, pairs whose progress rises from 0 to at most 1"
        raise Refused("", value, accepted) from None
    if kind == "linear":
        return [(0.0, first), (1.0, last)]
    places = [number / _LINES_OF_A_COSINE for number in range(_LINES_OF_A_COSINE + 1)]
    return [(done, last + (first - last) * (1 + math.cos(math.pi * done)) / 2) for done in places]


def canonical(value: JsonValue) -> JsonValue:
    """A hyperparameter in one form for each meaning, so that equal ones are equal."""
    points = points_of(value)
    if points is None or (isinstance(value, Mapping) and "cosine" in value):
        return value
    if [done for done, _ in points] == [0.0, 1.0]:
        return {"linear": [then for _, then in points]}
    return {"piecewise": [[done, then] for done, then in points]}


def canonical_call(value: JsonValue) -> JsonValue:
    """The same for one of what `read_wrappers` reads."""
    call = called(value)
    return call[0] if call is not None and not call[1] else value


def without_nan(value: Any, key: str = "") -> Any:
    """`value` as it is: what is no number equals nothing, not even itself in the next session.

    Raises:
        Refused: a number in it is none.
    """
    if isinstance(value, float) and math.isnan(value):
        raise Refused(key, value, "a number")
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        without_nan(part, _below(key, str(name)))
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError
    return float(value)


def is_form(value: object) -> bool:
    """Whether a table stands for one thing, so that another one replaces it and is not merged into it."""
    is_schedule = isinstance(value, Mapping) and len(value) == 1 and bool(value.keys() & {*_SCHEDULES})
    return is_schedule or called(value) is not None


def objects_in(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Key and name of each object that a value speaks of, at any depth."""
    if isinstance(value, str) and is_object(value):
        yield key, value
    elif isinstance(value, list):
        for part in value:
            yield from objects_in(part, key)
    elif isinstance(value, Mapping):
        if call := called(value):
            yield key, call[0]
        for name, part in value.items():
            yield from objects_in(part, key if is_object(name) else _below(key, name))


# --- keys -------------------------------------------------------------------------------------------------------------


def read_wrappers(value: object) -> list[JsonValue]:
    """One wrapper or several, innermost first, each `"module:Class"` or a call.

    Raises:
        Refused: it is something else.
    """
    listed = without_nan(value) if isinstance(value, list) else [without_nan(value)]
    for number, each in enumerate(listed):
        if not is_object(each) and called(each) is None:
            raise Refused(str(number) if isinstance(value, list) else "", each, _WRAPPERS)
    return [*listed]


MADE_BY_BUILD = (
    *("environment", "environment_kwargs", "eval_env_kwargs", "algorithm", "policy", "noise", "n_envs", "vec_env"),
    *("env_wrapper", "vec_env_wrapper", "monitor_kwargs", "normalize", "frame_stack"),
)
"""Keys of a scenario that say what a function of the user's makes itself."""


def read_build(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario whose `build` is its environment and its algorithm.

    Raises:
        Refused: it has a value of its own for what that function makes.
    """
    build = given["build"]
    for key in MADE_BY_BUILD:
        default = defaults[key]
        plain = default.model_dump() if isinstance(default, BaseModel) else default
        if key in given and given[key] not in (build, default, plain):
            raise Refused(key, given[key], f"nothing beside build, for {build} makes environments and model itself")
    return {**given, "environment": build, "algorithm": build}


def read_table(value: object) -> Any:
    """A table as it is, and one that the Zoo has written as text.

    Raises:
        Refused: the text is not one.
    """
    return from_zoo(value) if isinstance(value, str) and is_zoo_text(value) else value


def read_hyperparameters(table: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Hyperparameters with the Zoo's texts as tables.

    Raises:
        Refused: a value that stands for a schedule or an object, and is not written as one.
    """
    found: dict[str, JsonValue] = {}
    for name, given in table.items():
        try:
            value = read_table(given)
            points = points_of(value)
        except Refused as refused:
            raise Refused(_below(name, refused.below), refused.given, refused.accepted) from None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_known = value is None or is_number or points is not None or is_object(value) or called(value) is not None
        if name in SCHEDULED and not is_known:
            raise Refused(name, given, A_SCHEDULE)
        found[name] = _with_objects(name, value)
    return found


def _with_objects(name: str, value: JsonValue, key: str = "") -> JsonValue:
    """With what wants an object checked, at any depth."""
    key = _below(key, name)
    if name in _OBJECTS and value is not None and called(value) is None and not is_object(value):
        try:
            if not isinstance(value, str):
                raise ValueError
            return from_zoo(value)
        except ValueError:
            raise Refused(key, value, f"{AN_OBJECT} {_OBJECTS[name]}") from None
    if isinstance(value, dict):
        return {inner: _with_objects(inner, part, key) for inner, part in value.items()}
    return value


def _below(key: str, name: str) -> str:
    return ".".join(filter(None, (key, name)))


# --- the Zoo's text ---------------------------------------------------------------------------------------------------


def is_zoo_text(text: str) -> bool:
    """Whether a text is a table as RL Baselines3 Zoo writes it."""
    return _IS_ZOO.match(text) is not None


def from_zoo(text: str) -> JsonValue:
    """What RL Baselines3 Zoo would evaluate, in the forms above: literals, `dict(...)`, and names that are known.

    Raises:
        Refused: it says anything else.
    """
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = f" ({error})" if isinstance(error, _NotRead) else ""
        raise Refused(
            "", text, f"a table, or a text such as dict(net_arch=[64, 64], activation_fn=nn.ReLU){why}"
        ) from None


class _NotRead(ValueError):
    """A part of a text that is not read."""


def _read(node: ast.expr) -> JsonValue:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
            return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_read(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            return {_text(key): _read(part) for key, part in zip(keys, values, strict=True)}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
            return {_named(word.arg, node): _read(word.value) for word in words}
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[ast.List() | ast.Tuple() as inner], keywords=[]):
            return _read(inner)
        case ast.Call(func=ast.Name() | ast.Attribute() as name, args=[], keywords=words):
            return {str(_read(name)): {_named(word.arg, node): _read(word.value) for word in words}}
        case ast.Name(id=name) if name in _NAMED:
            return _NAMED[name]
        case ast.Attribute(value=above, attr=name) if module := _module(above):
            return f"{module}:{name}"
    raise _not_read(node)


def _module(node: ast.expr) -> str:
    """The module a chain of names stands for; '' where it is not known."""
    match node:
        case ast.Name(id=name):
            return _MODULES.get(name, "")
        case ast.Attribute(value=above, attr=name) if module := _module(above):
            return f"{module}.{name}"
    return ""


def _text(key: ast.expr | None) -> str:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return key.value
    raise _not_read(key)


def _named(name: str | None, node: ast.expr) -> str:
    if name is None:
        raise _not_read(node)
    return name


def _not_read(node: ast.expr | None) -> _NotRead:
    return _NotRead(f"{ast.unparse(node)} is not known" if node is not None else "** is not known")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`; tables are merged, anything else replaces."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        are_tables = isinstance(old, Mapping) and isinstance(value, Mapping) and not is_form(old) and not is_form(value)
        result[key] = merged(old, value) if are_tables else value  # type: ignore[arg-type]
    return result
