"""From a section's words to a Stable-Baselines3 model.

`hyperparameters` are keyword arguments of the algorithm. What TOML cannot say directly has a spelling here:

    train_freq = [1, "episode"]              a frequency with its unit
    learning_rate = { linear = [1e-3, 0.0] } from the first value to the last over the run's total timesteps
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import SB3, SB3_CONTRIB, is_algorithm

_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm: of Stable-Baselines3 or sb3-contrib by its name, any other as `module:Class`.

    Raises:
        ConfigError: it is not known, not installed, or no algorithm.
    """
    if name in SB3:
        return getattr(stable_baselines3, name)  # type: ignore[no-any-return]
    try:
        is_algorithm(name)
    except ValueError as error:
        raise _refused(f"The algorithm {name!r} is not known; there are {error}.") from error
    module, _, attribute = f"sb3_contrib:{name}".rpartition(":") if name in SB3_CONTRIB else name.rpartition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if name in SB3_CONTRIB:
            raise ConfigError(
                f"{name} is an algorithm of sb3-contrib, which cannot be imported: {error}",
                safe="nothing was trained and no checkpoint was touched.",
                next_step='add "sb3-contrib==VERSION", the version of stable-baselines3, to `packages` in '
                "section.toml, and install it here: pip install sb3-contrib.",
            ) from error
        raise _refused(f"The algorithm {name!r} cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, BaseAlgorithm)):
        raise _refused(f"The algorithm {name!r} is no class derived from Stable-Baselines3's BaseAlgorithm.")
    return found


def parameters_of(algorithm: type[BaseAlgorithm]) -> dict[str, inspect.Parameter]:
    """What its constructor takes, by name; where it passes on whatever it is given, also what those above it take."""
    found: dict[str, inspect.Parameter] = {}
    for base in algorithm.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
            found = {**parameters, **found}
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: it for name, it in found.items() if name != "self" and it.kind not in several}


def build_model(
    algorithm: str, policy: str, hyperparameters: Mapping[str, Any], vec_env: VecEnv, *, seed: int, device: str
) -> BaseAlgorithm:
    """A new model on `vec_env`.

    Raises:
        ConfigError: an unknown algorithm or hyperparameter, or a value the algorithm refuses.
    """
    maker = algorithm_class(algorithm)
    accepted = set(parameters_of(maker)) - {"env", "policy", "seed", "device", "_init_setup_model"}
    if unknown := sorted(set(hyperparameters) - accepted):
        raise _refused(f"{algorithm} has no hyperparameter {', '.join(unknown)}; it has {', '.join(sorted(accepted))}.")
    arguments = {name: _value(name, value) for name, value in hyperparameters.items()}
    try:
        return maker(policy, vec_env, seed=seed, device=device, **arguments)
    except (AssertionError, TypeError, ValueError) as error:
        raise _refused(f"{algorithm} refuses these hyperparameters: {error}") from error
    except MemoryError as error:
        raise _refused(f"The replay buffer is larger than the memory of this machine: {error}") from error


def without_buffer(algorithm: str, hyperparameters: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Hyperparameters with a replay buffer of one row, and how many it was to have; 0 rows where there is no buffer."""
    known = parameters_of(algorithm_class(algorithm)).get("buffer_size")
    if known is None:
        return dict(hyperparameters), 0
    return {**hyperparameters, "buffer_size": 1}, int(hyperparameters.get("buffer_size", known.default))


def is_ars(model: BaseAlgorithm) -> bool:
    """Augmented random search: its policy is a vector of weights, and it draws a population before a rollout starts."""
    return any((base.__module__, base.__name__) == ("sb3_contrib.ars.ars", "ARS") for base in type(model).__mro__)


def rollout_steps(model: BaseAlgorithm) -> int:
    """Timesteps of the rollouts an on-policy algorithm trains in; 1 for the others."""
    on_policy = hasattr(model, "rollout_buffer")
    return int(model.n_steps) * model.n_envs if on_policy else 1  # type: ignore[attr-defined]


def _value(name: str, value: Any) -> Any:
    if name == "train_freq" and isinstance(value, list):
        return tuple(value)
    if name in _SCHEDULED and isinstance(value, Mapping):
        if set(value) != {"linear"} or len(value["linear"]) != 2:
            raise _refused(f"{name} is given {dict(value)!r}; accepted are a number and {{ linear = [first, last] }}.")
        first, last = value["linear"]
        return LinearSchedule(float(first), float(last), end_fraction=1.0)
    return dict(value) if isinstance(value, Mapping) else value


def _refused(message: str) -> ConfigError:
    return ConfigError(
        message,
        safe="nothing was trained and no checkpoint was touched.",
        next_step="correct `algorithm` or `hyperparameters` in section.toml.",
    )
