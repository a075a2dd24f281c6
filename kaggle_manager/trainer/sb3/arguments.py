"""The objects that section.toml speaks of: what its texts stand for (see `sections.values`), made here.

Promises: a value that cannot be made is a `ConfigError` that names its key, what was given and what is accepted; what a
training is identified by is the text of each object, the same in every process (`text_of`).
Schedules are made of what NumPy and Stable-Baselines3 bring, so that a model file opens without this program.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.values import AN_OBJECT, Refused, called, is_object, points_of

_NOISES = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}
MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, gym.error.Error)
"""What a constructor raises that refuses its arguments. Others, as of a disk or a GPU, say nothing of these."""


def refused(key: str, given: object, accepted: str) -> ConfigError:
    """The error for a value of section.toml."""
    return ConfigError(
        f"{key}: given {given!r}; accepted: {accepted}",
        safe="nothing was trained and no checkpoint was touched.",
        next_step=f"correct `{key}` in section.toml.",
    )


def why(error: BaseException) -> str:
    """What an error says; of one without words, where it was raised."""
    if isinstance(error, AssertionError) and not str(error):
        [*_, last] = traceback.extract_tb(error.__traceback__) or [None]
        return f"it wants that {last.line.removeprefix('assert ')}" if last and last.line else "AssertionError"
    is_sentence = isinstance(error, AssertionError | TypeError | ValueError)
    return str(error) if is_sentence and str(error) else f"{type(error).__name__}: {error}"


def object_named(name: str, key: str) -> Any:
    """The object that `module:Name` stands for.

    Raises:
        ConfigError: there is no such module or name; of `key`.
    """
    module, _, path = name.partition(":")
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise refused(key, name, f"{AN_OBJECT} torch.nn:ReLU that can be imported here: {error}") from error


def value_of(value: Any, key: str) -> Any:
    """What a value stands for, at any depth: objects and calls are made, everything else is as it is.

    Raises:
        ConfigError: see `object_named`; or a call refuses its arguments.
    """
    if isinstance(value, str):
        return object_named(value, key) if is_object(value) else value
    if isinstance(value, list):
        return [value_of(part, f"{key}.{number}") for number, part in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if (call := called(value)) is not None:
        name, arguments = call
        return _made(object_named(name, key), arguments, f"{key}.{name}")
    return {name: value_of(part, f"{key}.{name}") for name, part in value.items()}


def made(call: Any, key: str, *first: Any) -> Any:
    """What a wrapper or a callback of section.toml is, see `values.read_wrappers`; called with `first` as well.

    Raises:
        ConfigError: see `value_of`.
    """
    name, arguments = called(call) or (call, {})
    return _made(object_named(name, key) if is_object(name) else name, arguments, key, *first)


def _made(maker: Any, arguments: Mapping[str, Any], key: str, *first: Any) -> Any:
    """What `maker` returns, called with `first` and with what `arguments` stand for."""
    given = {name: value_of(part, f"{key}.{name}") for name, part in arguments.items()}
    try:
        return maker(*first, **given)
    except MISTAKES as error:
        raise refused(key, dict(arguments), f"the arguments of {text_of(maker)}: {why(error)}") from error


def hyperparameters_of(table: Mapping[str, Any], key: str = "hyperparameters") -> dict[str, Any]:
    """Keyword arguments of an algorithm: schedules and objects made, a frequency with its unit as a pair.

    Raises:
        ConfigError: see `value_of`.
    """
    return {name: _hyperparameter(name, value, f"{key}.{name}") for name, value in table.items()}


def _hyperparameter(name: str, value: Any, key: str) -> Any:
    if name == "train_freq" and isinstance(value, list):
        return tuple(value)
    try:
        points = points_of(value)
    except Refused as error:
        raise refused(key, error.given, error.accepted) from None
    return value_of(value, key) if points is None else _schedule(points)


def _schedule(points: Sequence[tuple[float, float]]) -> Any:
    """As a function of the progress that remains, which Stable-Baselines3 counts from 1 down to 0."""
    if [done for done, _ in points] == [0.0, 1.0]:
        (_, first), (_, last) = points
        return LinearSchedule(first, last, end_fraction=1.0)
    rising = [(1.0 - done, value) for done, value in reversed(points)]
    return functools.partial(np.interp, xp=[at for at, _ in rising], fp=[value for _, value in rising])


def check_kind(value: Any, annotation: Any, key: str) -> None:
    """Refuse a number, a text or a truth value where the annotation of its parameter has none of that kind, and a
    schedule or an object where it has nothing else.

    Stable-Baselines3 would fail later, in words that name no key, or after steps were trained.

    Raises:
        ConfigError: of `key`.
    """
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if not all(_is_known(kind) for kind in kinds):
        return
    if not isinstance(value, bool | int | float | str):
        if value is None or not all(kind in _PLAIN for kind in kinds):
            return
    elif type(value) in kinds or (type(value) is int and float in kinds):
        return
    accepted = " or ".join(_IN_WORDS.get(get_origin(kind) or kind, "an object as module:Name") for kind in kinds)
    raise refused(key, text_of(value), accepted)


def check_schedule(value: Any, annotation: Any, key: str) -> None:
    """Refuse an object that cannot be called as a schedule is, where one is taken. It is not called: it may count.

    Raises:
        ConfigError: of `key`.
    """
    takes_one = any(get_origin(kind) is Callable for kind in get_args(annotation))
    if not takes_one or not callable(value):
        return
    try:
        if isinstance(value, type):
            raise TypeError("this is a class, { module:Class = { argument = value } } makes an object of it")
        inspect.signature(value).bind(1.0)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError):  # a function of another language does not say
            return
        accepted = f"a number, or what returns one for the progress that remains, from 1 to 0; {why(error)}"
        raise refused(key, text_of(value), accepted) from error


def _is_known(kind: Any) -> bool:
    """Whether it is certain what fits: it may be said as text by a class of one's own alone."""
    module = str(getattr(get_origin(kind) or kind, "__module__", "")).partition(".")[0]
    return kind not in (Any, inspect.Parameter.empty, object) and module in _KNOWN


_PLAIN = (bool, int, float, str, type(None))
_KNOWN = ("builtins", "collections", "stable_baselines3", "sb3_contrib", "numpy")
_IN_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "nothing",
    dict: "a table",
    tuple: "a list",
}


def action_noise(kind: str, std: float, space: spaces.Space[Any], key: str = "noise") -> ActionNoise:
    """Noise of `std` on each action, as RL Baselines3 Zoo makes it.

    Raises:
        ConfigError: actions of `space` are not continuous.
    """
    if not isinstance(space, spaces.Box):
        raise refused(key, {"type": kind, "std": std}, f"nothing for actions of {space}: noise is for those of a Box")
    noise: ActionNoise = _NOISES[kind](mean=np.zeros(space.shape), sigma=std * np.ones(space.shape))
    return noise


@dataclass(frozen=True)
class Wrapping:
    """What is put around an environment, innermost first. Picklable.

    Attributes:
        calls: in the form of `values.read_wrappers`, or something callable.
        key: of section.toml.
        of_type: what each has to return.
    """

    calls: Sequence[Any] = ()
    key: str = "env_wrapper"
    of_type: type = object

    def __call__(self, environment: Any) -> Any:
        """`environment` in all of them.

        Raises:
            ConfigError: one cannot be imported, refuses its arguments or returns something else.
        """
        for number, call in enumerate(self.calls):
            key = self.key if len(self.calls) == 1 else f"{self.key}.{number}"
            wrapped = made(call, key, environment)
            if not isinstance(wrapped, self.of_type):
                raise refused(key, text_of(call), f"what returns a {text_of(self.of_type)}; this is {type(wrapped)}")
            space = getattr(wrapped, "observation_space", None)
            if isinstance(space, spaces.Box) and 0 in space.shape:
                raise refused(key, text_of(call), f"what leaves something to observe; these are {space}")
            environment = wrapped
        return environment


def text_of(value: Any) -> Any:
    """A value as JSON: objects of Python as text, without addresses, so that it is the same in every process."""
    if isinstance(value, Mapping):
        return {str(name): text_of(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [text_of(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Enum):
        return text_of(value.value)
    if isinstance(value, FloatSchedule):  # around whatever a schedule was given as
        return text_of(value.value_schedule)
    if isinstance(value, ConstantSchedule):
        return value.val
    if isinstance(value, functools.partial):
        return {f"{text_of(value.func)}": text_of([*value.args, value.keywords])}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    kind, parts = type(value), getattr(value, "__dict__", {})
    plain = {name: part for name, part in parts.items() if isinstance(part, str | int | float | list | np.ndarray)}
    return {f"{kind.__module__}:{kind.__qualname__}": text_of(plain)}
