"""What an environment needs, seen by making it and playing a moment: `init` writes it into a new section.toml.

    python -m kaggle_manager.trainer.runtime.as_in_session kaggle_manager.trainer.sb3.env_needs
        PROJECT TARGET KWARGS TRAINING

Prints one JSON object: `problem` (why it cannot be imported, or ''), `policy`, `wrapper` (see `wrapper_for`), `modules`
(all that it imported and is not of the project) and `files` (of the project, that it imported or read); of an algorithm
`module:Class` also `like`, the known one it is derived from, and `takes`, its arguments. TARGET may be '' for the
algorithm alone. TRAINING is a JSON list: the wrappers around it, as section.toml has them, the algorithm, which names
policies, and the wrapper that is usual around such an environment, or ''. Nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.sections.values import is_object
from kaggle_manager.trainer.runtime.as_in_session import try_out
from kaggle_manager.trainer.sb3.acting import random_action
from kaggle_manager.trainer.sb3.algorithms import algorithm_class, parameters_of
from kaggle_manager.trainer.sb3.arguments import MISTAKES, Wrapping
from kaggle_manager.trainer.sb3.env_files import FilesUsed
from kaggle_manager.trainer.sb3.policies import policy_for

STEPS = 3
OF_SB3 = ("stable_baselines3", "sb3_contrib")
MOST_BYTES = 200_000
"""A larger file is none that belongs into the code of a session: it is left out, and the preflight names it."""


def look(
    target: str, kwargs: dict[str, Any], wrappers: Sequence[Any] = (), algorithm: str = "PPO", usual: str = ""
) -> dict[str, Any]:
    """See the module; `target` is `module:callable`."""
    used = FilesUsed()
    needs: dict[str, Any] = {"problem": "", "policy": "", "wrapper": None, "like": "", "takes": None}
    if is_object(algorithm):
        try:
            needs |= _derived(algorithm_class(algorithm))
        except ConfigError as error:
            needs["problem"] = error.message
    if target and not needs["problem"]:
        _look_at_environment(needs, target, kwargs, wrappers, needs["like"] or algorithm, usual)
    modules = sorted(name for name in used.new_modules() if not _is_own(sys.modules[name]))
    files = sorted(name for name in used.names() if _is_small(try_out.project / name))
    return {**needs, "modules": modules, "files": files}


def _derived(algorithm: type[BaseAlgorithm]) -> dict[str, Any]:
    names = (base.__name__ for base in algorithm.__mro__ if base.__module__.partition(".")[0] in OF_SB3)
    return {"like": next((name for name in names if name in NAMES), ""), "takes": sorted(parameters_of(algorithm))}


def _look_at_environment(
    needs: dict[str, Any], target: str, kwargs: dict[str, Any], wrappers: Sequence[Any], algorithm: str, usual: str
) -> None:
    try:
        module, _, name = target.partition(":")
        env = Wrapping(wrappers, of_type=gym.Env)(getattr(__import__(module, fromlist=["_"]), name)(**kwargs))
    except (ConfigError, gym.error.UnregisteredEnv, ImportError, AttributeError) as error:
        advice = try_out.advice(error)
        why = error.message if isinstance(error, ConfigError) else error
        named = kwargs.get("id", target)
        needs["problem"] = f"The environment {named!r} cannot be imported: {why}{f'; {advice}' if advice else ''}"
    except Exception:  # it is there, and does not work yet: its checks say why
        pass
    else:
        with contextlib.suppress(Exception):
            if not wrappers and (wrapper := wrapper_for(env, usual)) is not None:
                needs["wrapper"], env = wrapper, Wrapping([wrapper])(env)
            needs["policy"] = policy_for(env.observation_space, algorithm)
            env.reset(seed=0)
            for _ in range(STEPS):
                env.step(random_action(env))
            env.close()


_LEARNED_FROM = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)


def wrapper_for(env: gym.Env[Any, Any], usual: str = "") -> Any:
    """What makes observations that no algorithm takes, such as texts, ones that it does; as `env_wrapper` says it.

    Args:
        usual: the wrapper that is tried first; "" for none.

    Returns:
        None where they can be learned from as they are, and where nothing is known that helps.
    """
    space = env.observation_space
    if _is_learned_from(space):
        return None
    parts = space.spaces if isinstance(space, gym.spaces.Dict) else {}
    kept = sorted(name for name, part in parts.items() if isinstance(part, _LEARNED_FROM))
    filtered = {"gymnasium.wrappers:FilterObservation": {"filter_keys": kept}}
    for wrapper in (*filter(None, [usual]), *([filtered] if kept else []), "gymnasium.wrappers:FlattenObservation"):
        with contextlib.suppress(ConfigError, *MISTAKES, NotImplementedError):  # it is for other environments
            if _is_learned_from(Wrapping([wrapper])(env).observation_space):
                return wrapper
    return None


def _is_learned_from(space: gym.Space[Any]) -> bool:
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else [space]
    return all(isinstance(part, _LEARNED_FROM) for part in parts)


def _is_own(module: Any) -> bool:
    path = getattr(module, "__path__", ())
    # `torch.classes` is a module with an answer of its own to every name.
    places = [getattr(module, "__file__", None), *(path if isinstance(path, Iterable) else ())]
    return any(try_out.is_own(Path(os.path.realpath(place))) for place in places if isinstance(place, str))


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= MOST_BYTES


def main(arguments: Sequence[str]) -> int:
    """Print what is needed."""
    project, target, kwargs, training = arguments
    os.chdir(project)
    sys.path.insert(0, project)  # this program is imported by now: a folder of its name does not come before it
    print("\n" + json.dumps(look(target, json.loads(kwargs), *json.loads(training))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
