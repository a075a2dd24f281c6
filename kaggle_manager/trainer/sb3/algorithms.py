"""From a section's words to a Stable-Baselines3 model.

`hyperparameters` are keyword arguments of the algorithm; `arguments` makes what they stand for.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import NAMES, SB3, SB3_CONTRIB, is_algorithm
from kaggle_manager.sections.values import is_object
from kaggle_manager.trainer.sb3 import arguments
from kaggle_manager.trainer.sb3.policies import policy_for


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
    algorithm: str,
    policy: str | type,
    hyperparameters: Mapping[str, Any],
    vec_env: VecEnv,
    *,
    seed: int,
    device: str,
    noise: tuple[str, float] | None = None,
    table: str = "",
) -> BaseAlgorithm:
    """A new model on `vec_env`.

    Args:
        noise: kind and standard deviation of the noise on its actions.
        table: of section.toml, such as `scenarios.NAME.`, to name a refused key in full.

    Raises:
        ConfigError: an unknown algorithm or hyperparameter, or a value the algorithm refuses.
    """
    attempt = _Attempt(algorithm, policy, hyperparameters, vec_env, seed, noise, table)
    try:
        model = attempt.model(device)
    except ConfigError:
        raise
    except MemoryError as error:
        raise _refused(f"The replay buffer is larger than the memory of this machine: {error}") from error
    except Exception as error:
        raise attempt.refusal(error) from error
    _check_rows(model, f"{table}normalize")
    return model


@dataclass(frozen=True)
class _Attempt:
    """A model as a section describes it; see `build_model`."""

    algorithm: str
    policy: str | type
    hyperparameters: Mapping[str, Any]
    vec_env: VecEnv
    seed: int
    noise: tuple[str, float] | None
    table: str

    def model(self, device: str) -> BaseAlgorithm:
        maker, key = algorithm_class(self.algorithm), f"{self.table}hyperparameters"
        parameters = parameters_of(maker)
        accepted = set(parameters) - {"env", "policy", "seed", "device", "_init_setup_model"}
        if unknown := sorted(set(self.hyperparameters) - accepted):
            raise _refused(
                f"{key}.{unknown[0]}: {self.algorithm} has no hyperparameter {', '.join(unknown)}; "
                f"it has {', '.join(sorted(accepted))}."
            )
        given = arguments.hyperparameters_of(self.hyperparameters, key)
        for name, value in given.items():
            arguments.check_kind(value, parameters[name].annotation, f"{key}.{name}")
            arguments.check_schedule(value, parameters[name].annotation, f"{key}.{name}")
        if self.noise is not None:
            space = self.vec_env.action_space
            given["action_noise"] = arguments.action_noise(*self.noise, space, f"{self.table}noise")
        policy = policy_of(maker, self.policy, f"{self.table}policy")
        return maker(policy, self.vec_env, seed=self.seed, device=device, **given)

    def refusal(self, error: Exception) -> Exception:
        """The same error in words: of the key without which a model can be made. One that says nothing of the section,
        as of a GPU, as it is."""
        if "as action spaces" in str(error):
            kind = type(self.vec_env.action_space).__name__
            return _refused(
                f"{self.algorithm} takes no {kind} actions, which the environment has. Algorithms that do: "
                f"{', '.join(_taking(self.vec_env)) or 'none that is installed here'}."
            )
        if not isinstance(error, arguments.MISTAKES) and self._works():
            return error
        reason, space = arguments.why(error), self.vec_env.observation_space
        fitting = policy_for(space, self.algorithm)
        if fitting != self.policy and replace(self, policy=fitting)._works():
            key = f"{self.table}policy"
            return arguments.refused(key, arguments.text_of(self.policy), f"{reason}; for {space} it is {fitting}")
        found = [
            (key, value)
            for key, value, without in _without_one(self.hyperparameters)
            if replace(self, hyperparameters=without)._works()
        ]
        if found:
            key, value = found[-1]
            accepted = f"what {self.algorithm} takes: {reason}"
            return arguments.refused(f"{self.table}hyperparameters.{key}", value, accepted)
        if not isinstance(error, arguments.MISTAKES):
            return error
        return _refused(f"{self.algorithm} refuses these hyperparameters: {reason}")

    def _works(self) -> bool:
        given, _ = without_buffer(self.algorithm, self.hyperparameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                replace(self, hyperparameters=given).model("cpu")
            except Exception:  # whatever it is, it does not
                return False
        return True


def _without_one(table: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each key, its value, and what is left without it; then each key of the tables in it."""
    for key, value in table.items():
        yield key, value, {name: part for name, part in table.items() if name != key}
    for key, value in table.items():
        if isinstance(value, Mapping):
            for inner, part, without in _without_one(value):
                yield f"{key}.{inner}", part, {**table, key: without}


def _taking(vec_env: VecEnv) -> Iterator[str]:
    """Algorithms that take the actions of an environment, of those that are installed here: each is asked."""
    for name in NAMES:
        try:
            maker = algorithm_class(name)
            policy: Any = next(iter(maker.policy_aliases))
            maker(policy, vec_env, _init_setup_model=False)  # type: ignore[call-arg]
        except ConfigError:  # sb3-contrib is not here
            continue
        except Exception as error:
            if "as action spaces" in str(error):
                continue
        yield name


def policy_of(maker: type[BaseAlgorithm], policy: str | type, key: str = "policy") -> str | type:
    """The class that `module:Class` names; a name that the algorithm knows as it is.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(policy, str):
        return policy
    if is_object(policy):
        found: Any = arguments.object_named(policy, key)
        if not (isinstance(found, type) and issubclass(found, BasePolicy)):
            raise arguments.refused(key, policy, f"a class derived from {arguments.text_of(BasePolicy)}")
        return found
    if maker.policy_aliases and policy not in maker.policy_aliases:
        raise arguments.refused(key, policy, f"{', '.join(maker.policy_aliases)}, or a class as module:Class")
    return policy


def _check_rows(model: BaseAlgorithm, key: str) -> None:
    """A replay buffer is given what VecNormalize was given, whatever is around that; Stable-Baselines3 fails later."""
    normalize = model.get_vec_normalize_env()
    buffer = getattr(model, "replay_buffer", None)
    if normalize is None or buffer is None or normalize.observation_space.shape == buffer.observation_space.shape:
        return
    raise arguments.refused(
        key,
        f"observations of shape {normalize.observation_space.shape}",
        f"those of the replay buffer, {buffer.observation_space.shape}: instead of frame_stack = N put "
        '{ "stable_baselines3.common.vec_env:VecFrameStack" = { n_stack = N } } into vec_env_wrapper, below it; images '
        "need no normalisation",
    )


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
    """Timesteps between two moments at which a training can be saved, over all environments; 1 where an episode is."""
    if hasattr(model, "rollout_buffer"):
        return int(model.n_steps) * model.n_envs  # type: ignore[attr-defined]
    frequency = getattr(model, "train_freq", None)
    if isinstance(frequency, TrainFreq) and frequency.unit is TrainFrequencyUnit.STEP:
        return frequency.frequency * model.n_envs
    return 1


def _refused(message: str) -> ConfigError:
    return ConfigError(
        message,
        safe="nothing was trained and no checkpoint was touched.",
        next_step="correct `algorithm` or `hyperparameters` in section.toml.",
    )
