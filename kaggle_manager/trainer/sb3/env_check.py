"""What can be seen of an environment without training in it. Whatever its code raises is a result.

Stable-Baselines3's own `check_env` comes first, in its own words; then what only random actions show. A failure names
the check, the key of section.toml where one is to blame, and the last line of the user's code.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common import env_checker

from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.sections.agent_tables import MonitorKwargs
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.runtime.as_in_session import chain, try_out
from kaggle_manager.trainer.runtime.checks import CheckResult
from kaggle_manager.trainer.sb3 import acting, algorithms, env_statistics, user_callbacks
from kaggle_manager.trainer.sb3.env_files import FilesUsed, not_fingerprinted
from kaggle_manager.trainer.sb3.env_state import EntryPoint, EnvFactory
from kaggle_manager.trainer.sb3.environments import Environments, environments_of
from kaggle_manager.trainer.sb3.policies import policy_for

SEED = 101
ENDLESS_AFTER = 50_000
"""Random actions after which an episode that is not over, and has no time limit, is called endless."""


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        steps: random actions: enough to see rewards differ, little enough for a slow simulator.
        look_s: seconds for each look at an environment that is slower than that.
        training_s: seconds for the trial training.
    """

    steps: int
    look_s: float
    training_s: float


BRIEF = Effort(200, 3.0, 60.0)
THOROUGH = Effort(5_000, 60.0, 900.0)
SLOW_S = 1.0
"""Making an environment that takes longer is said: it is what most of a preflight's time goes into."""


class Pool(contextlib.AbstractContextManager["Pool"]):
    """Environments for several checks: each is made once, for a constructor may load data or start a simulator.

    Attributes:
        longest_s: seconds that the slowest of them took, without the imports, which a session does once.
    """

    def __init__(self) -> None:
        self._made: dict[str, gym.Env[Any, Any]] = {}
        self.longest_s = 0.0

    def of(self, scenario: ScenarioConfig) -> gym.Env[Any, Any]:
        """One of `scenario`, in its wrappers; raises what making it raises."""
        made = environments_of(scenario)
        return made.wrapped(self._number(0, made.factory))

    def environments(self, scenario: ScenarioConfig) -> Environments:
        """Those of `scenario`, in this process: the same ones each time, which stay open when a check closes them."""
        return self._pooled(environments_of(scenario))

    def for_evaluation(self, scenario: ScenarioConfig) -> Environments:
        """As `environments`, as evaluations play them."""
        return self._pooled(environments_of(scenario).for_evaluation())

    def _pooled(self, made: Environments) -> Environments:
        count = itertools.count()
        return replace(
            made.in_this_process(),
            factory=lambda: _StaysOpen(self._number(next(count) % made.n_envs, made.factory)),
        )

    def _number(self, number: int, factory: EnvFactory) -> gym.Env[Any, Any]:
        assert isinstance(factory, EntryPoint)
        key = json.dumps([number, factory.target, factory.kwargs], sort_keys=True, default=repr)
        if key not in self._made:
            _import(factory)
            began = time.monotonic()
            self._made[key] = factory()
            self.longest_s = max(self.longest_s, time.monotonic() - began)
        return self._made[key]

    def __exit__(self, *error: object) -> None:
        for env in self._made.values():
            with contextlib.suppress(Exception):  # one that is no environment at all
                env.close()
        self._made.clear()


def _import(factory: EntryPoint) -> None:
    """What making an environment imports; why that fails is said where it is made."""
    with contextlib.suppress(Exception):
        importlib.import_module(factory.target.partition(":")[0])
        module, _, id = str(factory.kwargs.get("id", "")).rpartition(":")
        if module:
            importlib.import_module(module)
        if id and isinstance(entry := gym.spec(id).entry_point, str):
            gym.envs.registration.load_env_creator(entry)


class _StaysOpen(gym.Wrapper[Any, Any, Any, Any]):
    def close(self) -> None:
        pass


def check_environment(
    scenario: ScenarioConfig, effort: Effort = BRIEF, made: Pool | None = None
) -> Iterator[CheckResult]:
    """Check after check; none follows one that fails.

    Args:
        made: the environments, where other checks use them as well.
    """
    if made is None:
        with Pool() as made:
            yield from check_environment(scenario, effort, made)
        return
    used = FilesUsed()
    try:
        env = made.of(scenario)
    except (ConfigError, gym.error.UnregisteredEnv, ModuleNotFoundError) as error:
        yield CheckResult("environment can be imported", False, told(error))
        return
    except Exception as error:
        yield CheckResult("environment can be made", False, told(error, _kwargs_key(scenario, error)))
        return
    if made.longest_s > SLOW_S:
        yield CheckResult("environment can be made", True, f"WARNING: it takes {made.longest_s:.1f} s. {_EACH_TIME}")
    played: list[bool] = []
    masked = _takes_masks(scenario)
    looks: Mapping[str, Callable[[], tuple[bool, str]]] = {
        SB3_CHECK: lambda: check_env(env, masked),
        STEPS: lambda: _play(env, effort, played, masked),
        NO_PAST: lambda: _check_past(env, environments_of(scenario)),
        ENDS: lambda: _check_episode(env, effort, played, masked),
        **_monitored(scenario, effort, made),
        f"{scenario.algorithm} accepts the environment": lambda: _check_algorithm(scenario, made),
        FILES: _check_read,
    }
    for name, look in looks.items():
        try:
            ok, detail = look()
        except Exception as error:
            ok, detail = False, told(error)
        yield CheckResult(name, ok, detail)
        if not ok:
            return
    if try_out.project != try_out.code and (warning := not_fingerprinted(scenario, used)):
        yield CheckResult("its files are fingerprinted", True, warning)


_EACH_TIME = (
    "A preflight makes it about six times, most of them in the trial training; a training makes it in each "
    "session and anew for each episode of each evaluation: have fewer of those, or let the constructor do less"
)


def check_settings(scenario: ScenarioConfig, made: Pool) -> CheckResult:
    """The settings of a whole training: its environment is made, and its algorithm takes it."""
    try:
        ok, detail = _check_algorithm(scenario, made)
    except Exception as error:
        ok, detail = False, told(error, _kwargs_key(scenario, error))
    return CheckResult("the whole training's settings work", ok, detail)


def _check_read() -> tuple[bool, str]:
    if imported := try_out.imported_elsewhere():
        return False, imported
    # Whether it needs a file only its code knows: it may be read where it is there, and done without elsewhere.
    read = try_out.left_behind()
    return True, f"WARNING: {read}" if read else "every project file it reads is sent with the session"


STEPS, ENDS = OF_EPISODES = ("resets and steps", "an episode ends")
"""Checks whose figures are others where episodes are."""
SB3_CHECK = "Stable-Baselines3's check_env"
FILES = "files"


def told(error: Exception, key: str = "") -> str:
    """An error in a line: what, where in the user's code, and what to do where that is known.

    Args:
        key: of section.toml, which is to blame.
    """
    said = error.message if isinstance(error, KaggleManagerError) else f"{type(error).__name__}: {error}"
    where = f" ({place})" if (place := try_out.where(error)) else ""
    advice = try_out.advice(error) or _not_installed(error) or (try_out.beside() if place and not key else "")
    named = f"{key}: " if key and not said.startswith(f"{key}: ") else ""
    return f"{named}{said}{where}{f'; {advice}' if advice else ''}"


def _not_installed(error: Exception) -> str:
    """What to do about a module that this machine has not at all; what a session alone lacks, the try-out says."""
    for each in chain(error):
        if isinstance(each, ModuleNotFoundError) and each.name:
            return (
                f"nothing here is named {each.name}, in the project or among the installed packages: correct the name, "
                "or install the package that brings it and pin that in `packages` of section.toml"
            )
    return ""


def _kwargs_key(scenario: ScenarioConfig, error: Exception) -> str:
    """`environment_kwargs.NAME` where Python says that a constructor takes no such argument."""
    if isinstance(error, TypeError) and "argument" in str(error):
        named = [name for name in scenario.environment_kwargs if f"'{name}'" in str(error)]
        return f"environment_kwargs.{named[0]}" if named else "environment_kwargs"
    return ""


class _PlainTypes(gym.Wrapper[Any, Any, Any, Any]):
    """NumPy's numbers and truth values as Python's, which `check_env` wants and a training does not need.

    Args:
        masked: replace a forbidden action, which `check_env` may draw, by one that is allowed.
    """

    def __init__(self, env: gym.Env[Any, Any], masked: bool) -> None:
        super().__init__(env)
        self._masked = masked

    def __getattr__(self, name: str) -> Any:
        """`check_env` asks the environment itself for the reward of a goal, which wrappers do not pass on."""
        if name != "compute_reward":
            raise AttributeError(name)
        return self.env.get_wrapper_attr(name)

    def step(self, action: Any) -> Any:
        if self._masked and not acting.is_allowed(self.env, action):
            action = acting.random_action(self.env)
        step: tuple[Any, ...] = self.env.step(action)
        observation, reward, terminated, truncated, info = step
        if isinstance(reward, np.floating | np.integer):
            reward = float(reward)
        ends = [bool(end) if isinstance(end, np.bool_) else end for end in (terminated, truncated)]
        return observation, reward, ends[0], ends[1], info


def check_env(env: gym.Env[Any, Any], masked: bool) -> tuple[bool, str]:
    """Stable-Baselines3's own check of an environment, in its own words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env_checker.check_env(
                _PlainTypes(env, masked) if isinstance(env, gym.Env) else env, warn=True, skip_render_check=True
            )
            problem = ""
        except Exception as error:
            problem = told(error)
    of_user = [it for it in caught if issubclass(it.category, UserWarning)]
    said = list(dict.fromkeys(str(it.message) for it in of_user))
    # It only warns of spaces that no algorithm can train on; what a simulator does not support is another matter.
    of_sb3 = {str(it.message) for it in of_user if it.filename == env_checker.__file__}
    refused = [text for text in said if text in of_sb3 and "not supported" in text]
    if problem or refused:
        return False, "; ".join([*(said if problem else refused), *([problem] if problem else [])])
    return True, "; ".join(f"WARNING: {text}" for text in said) or "no objections"


def _play(env: gym.Env[Any, Any], effort: Effort, ended: list[bool], masked: bool) -> tuple[bool, str]:
    """What random actions show; says in `ended` whether an episode ended."""
    env.action_space.seed(SEED)
    observation, _ = env.reset(seed=SEED)
    rewards: list[float] = []
    returns = [0.0]
    deadline = time.monotonic() + effort.look_s
    while len(rewards) < effort.steps and (time.monotonic() < deadline or not rewards):
        if problem := _not_in(env.observation_space, observation):
            return False, problem
        observation, reward, terminated, truncated, _ = env.step(_any_action(env, masked))
        if not math.isfinite(float(reward)):
            return False, f"a reward is {reward}"
        rewards.append(float(reward))
        returns[-1] += float(reward)
        if terminated or truncated:
            observation, _ = env.reset()
            returns.append(0.0)
    ended.append(len(returns) > 1)
    distinct = len(set(rewards))
    seen = f"{len(rewards)} random actions, {distinct} distinct rewards"
    if distinct == 1 and len(set(returns[:-1])) < 2:
        # Not a failure: where nothing is won before a goal is reached, chance may never see it.
        seen += f"; every one is {rewards[0]}, and so far no episode was better than another: look at the reward"
    return True, seen


def _any_action(env: gym.Env[Any, Any], masked: bool) -> Any:
    """As the algorithm at the beginning of its training: one that asks for no masks tries everything."""
    return acting.random_action(env) if masked else env.action_space.sample()


def _takes_masks(scenario: ScenarioConfig) -> bool:
    try:
        return acting.takes_masks(algorithms.algorithm_class(scenario.algorithm))
    except ConfigError:  # which building a model says
        return False


NO_PAST = "episodes are independent of each other"


def _check_past(env: gym.Env[Any, Any], made: Environments) -> tuple[bool, str]:
    if said := env_statistics.in_words(env_statistics.statistics_in(env)):
        return True, f"WARNING: {said}"
    if env_statistics.depends_on_the_past(env, lambda: made.wrapped(made.factory()), SEED):
        return True, f"WARNING: with the same seed and actions it is another one later. {env_statistics.BIASED}"
    return True, "in the episodes tried"


def _not_in(space: gym.Space[Any], value: Any, key: str = "") -> str:
    """Why an observation is not in its space, with the key of the part that is not; '' where it is."""
    if space.contains(value):
        return ""
    if isinstance(space, gym.spaces.Dict) and isinstance(value, Mapping):
        if set(space.spaces) != set(value):
            return f"an observation has the keys {sorted(value)}, and its space {sorted(space.spaces)}"
        for name, part in space.spaces.items():
            if found := _not_in(part, value[name], name):
                return found
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", type(value).__name__)
    return f"an observation{f' (key {key!r})' if key else ''} of shape {shape}, {kind}, is not in {space}"


def _check_episode(env: gym.Env[Any, Any], effort: Effort, ended: list[bool], masked: bool) -> tuple[bool, str]:
    """Evaluations, and with `train_freq` in episodes the saves as well, wait for the end of an episode."""
    if any(ended):
        return True, f"within {effort.steps} random actions"
    if limit := _time_limit(env):
        return True, f"after {limit:,} steps at most"
    env.reset(seed=SEED)
    deadline = time.monotonic() + effort.look_s
    for step in range(1, ENDLESS_AFTER + 1):
        _, _, terminated, truncated, _ = env.step(_any_action(env, masked))
        if terminated or truncated:
            return True, f"one of random actions did after {step:,} steps"
        if time.monotonic() >= deadline:
            return True, f"WARNING: none did in {step:,} steps; is there an end? {_WANTS_AN_END}"
    return False, f"none did in {ENDLESS_AFTER:,} random actions, and there is no time limit: {_WANTS_AN_END}"


def _monitored(scenario: ScenarioConfig, effort: Effort, made: Pool) -> Mapping[str, Callable[[], tuple[bool, str]]]:
    """A look at what Monitor is asked for, which it says at the end of an episode; none at what it does by itself."""
    if scenario.monitor_kwargs == MonitorKwargs():
        return {}

    def look() -> tuple[bool, str]:
        env = made.environments(scenario).one("none", SEED)
        env.reset(seed=SEED)
        deadline = time.monotonic() + effort.look_s
        for step in range(1, ENDLESS_AFTER + 1):
            _, _, terminated, truncated, _ = env.step(_any_action(env, _takes_masks(scenario)))
            if terminated or truncated:
                env.reset()
                return True, f"an episode of {step:,} steps"
            if time.monotonic() >= deadline:
                break
        return True, "WARNING: not tried, for no episode ended"

    return {"monitor_kwargs are what the environment can do": look}


_WANTS_AN_END = (
    "an evaluation plays whole episodes, and a simulator that cannot be pickled is put back by playing the open one "
    "again; gymnasium.wrappers.TimeLimit(env, max_episode_steps) gives one"
)


def _time_limit(env: gym.Env[Any, Any]) -> int | None:
    """Steps after which a wrapper ends an episode; None where none does."""
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, gym.wrappers.TimeLimit):
            return layer._max_episode_steps
        layer = layer.env
    return None


def _check_algorithm(scenario: ScenarioConfig, made: Pool) -> tuple[bool, str]:
    vec = made.environments(scenario).vectorised("none", SEED)
    noise = (scenario.noise.type, scenario.noise.std) if scenario.noise else None
    given, _ = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
    build = functools.partial(
        algorithms.build_model,
        scenario.algorithm,
        hyperparameters=given,
        vec_env=vec,
        seed=SEED,
        device="cpu",
        noise=noise,
    )
    with contextlib.closing(vec), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(scenario.policy)
        if _takes_masks(scenario) and not vec.has_attr(acting.MASKS):
            return False, (
                f"{scenario.algorithm} asks the environment which actions are allowed, and it has no method "
                f"{acting.MASKS}(); sb3_contrib.common.wrappers:ActionMasker gives it one"
            )
        said = [f"WARNING: {it.message}" for it in caught if it.category is UserWarning]
        if _is_flattened(scenario.policy, vec.observation_space):
            with contextlib.suppress(Exception):
                build("CnnPolicy")
                said.append(FLATTENED)
        environments_of(scenario).check_evaluation(vec)
        user_callbacks.made_of(scenario.callbacks)
        return True, "; ".join([f"actions {vec.action_space}", *dict.fromkeys(said)])


FLATTENED = 'WARNING: MlpPolicy flattens images; policy = "CnnPolicy" in section.toml sees them as images'


def _is_flattened(policy: str, space: gym.Space[Any]) -> bool:
    return policy == "MlpPolicy" and policy_for(space) == "CnnPolicy"
