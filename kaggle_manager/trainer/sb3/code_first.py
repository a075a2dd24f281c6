"""A training that is the user's own function: `build = "train:build"` in section.toml.

    def build(context) -> Build:
        env = VecNormalize(context.make_vec_env("Hopper-v5", n_envs=8))
        return Build(PPO("MlpPolicy", env, seed=context.seed, device=context.device))

The function makes the environments by `context.make_vec_env`, puts around them what it likes, and makes the model;
`learn()`, saving, evaluating and resuming are the trainer's. It is called once in each session, and what it made is put
back where the last session ended: so it has to make the same each time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import arguments, env_state
from kaggle_manager.trainer.sb3.env_processes import errors_of_processes
from kaggle_manager.trainer.sb3.env_state import EntryPoint, Mode
from kaggle_manager.trainer.sb3.environments import Environments
from kaggle_manager.trainer.sb3.user_callbacks import callbacks_of


@dataclass(frozen=True)
class Build:
    """What a `build` function returns.

    Attributes:
        model: not trained yet, on environments of `context.make_vec_env`.
        eval_env: environments of `context.make_vec_env` as evaluations shall play them, with what is around them; by
            default those of the model.
        callbacks: to run in `learn()` besides those that section.toml names: what its `callback` may be.
    """

    model: BaseAlgorithm
    eval_env: VecEnv | None = None
    callbacks: MaybeCallback | Sequence[BaseCallback] = ()


class Context:
    """What a `build` function is given.

    Attributes:
        seed: the run's.
        device: "cpu" or "cuda", as the session has it.
        timesteps: the run's target over all sessions.
        hyperparameters: those of section.toml, made; with `--quick`, those of the quick variant.
    """

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        timesteps: int,
        hyperparameters: Mapping[str, Any],
        mode_of: Callable[[Environments], Mode],
        resources: ExitStack,
    ) -> None:
        self.seed, self.device, self.timesteps = seed, device, timesteps
        self.hyperparameters = arguments.hyperparameters_of(hyperparameters)
        self._mode_of, self._resources = mode_of, resources
        self._mode: Mode | None = None
        self._tried: Any = None
        self._made: dict[int, tuple[VecEnv, Environments, bool]] = {}
        self._errors: Path | None = None

    def make_vec_env(
        self,
        env_id: str | Callable[..., gym.Env[Any, Any]],
        n_envs: int = 1,
        seed: int | None = None,
        start_index: int = 0,
        monitor_dir: str | None = None,
        wrapper_class: Callable[..., gym.Env[Any, Any]] | None = None,
        env_kwargs: dict[str, Any] | None = None,
        vec_env_cls: type[DummyVecEnv | SubprocVecEnv] | None = None,
        vec_env_kwargs: dict[str, Any] | None = None,
        monitor_kwargs: dict[str, Any] | None = None,
        wrapper_kwargs: dict[str, Any] | None = None,
    ) -> VecEnv:
        """As `stable_baselines3.common.env_util.make_vec_env`: environments that a resume puts back where they were.

        Args:
            seed: the run's by default.
            monitor_dir: not used; episodes are in history/monitor.csv.
            vec_env_kwargs: not used; processes are started as the system does it best.

        Raises:
            ConfigError: `vec_env_cls` is another class than these two.
        """
        if vec_env_cls not in (None, DummyVecEnv, SubprocVecEnv):
            given = arguments.text_of(vec_env_cls)
            raise refused(f"make_vec_env(vec_env_cls={given}): accepted: DummyVecEnv, SubprocVecEnv")
        given_kwargs = dict(env_kwargs or {})
        factory = EntryPoint("gymnasium:make", {"id": env_id, **given_kwargs})
        environments = Environments(
            factory=factory if isinstance(env_id, str) else partial(env_id, **given_kwargs),
            n_envs=n_envs,
            processes=vec_env_cls is SubprocVecEnv,
            wrappers=() if wrapper_class is None else (partial(wrapper_class, **(wrapper_kwargs or {})),),
            monitor={name: value for name, value in (monitor_kwargs or {}).items() if name != "filename"},
        )
        one = arguments.text_of([env_id, given_kwargs, wrapper_class, wrapper_kwargs or {}])
        if self._mode is None:
            self._mode, self._tried = self._mode_of(environments), one
        if environments.processes and self._errors is None:
            self._errors = self._resources.enter_context(errors_of_processes())
        vec = environments.vectorised(
            self._mode,
            (self.seed if seed is None else seed) + start_index,
            errors=self._errors if environments.processes else None,
        )
        self._resources.callback(env_state.close, vec)
        self._made[id(vec)] = vec, environments, one == self._tried
        return vec

    def environments_of(self, vec: VecEnv | None, what: str, *, are_trained_in: bool = False) -> Environments:
        """How a vectorised environment that was made here is made again, with all that is around it now.

        Args:
            are_trained_in: and how exactly they can be put back has to be known, which is tried of the first.

        Raises:
            ConfigError: it was not.
        """
        _, made, are_tried = self._made.get(id(vec.unwrapped) if vec is not None else 0, (None, None, False))
        if vec is None or made is None:
            raise refused(
                f"{what} is not on environments of context.make_vec_env, and no others can be put back where they were"
            )
        if are_trained_in and not are_tried:
            raise refused(
                f"{what} is not on environments like those that were made first, and only of these it is tried how "
                "exactly they can be put back: call context.make_vec_env for the model first"
            )
        around = [layer for layer in env_state.layers_of(vec) if isinstance(layer, VecEnvWrapper)]
        return replace(made, vec_wrappers=tuple(map(_again, reversed(around))))


@dataclass(frozen=True)
class Built:
    """What came of it: model and callbacks, and how the environments of both kinds are made."""

    model: BaseAlgorithm
    environments: Environments
    evaluation: Environments
    callbacks: Sequence[BaseCallback] = field(default_factory=tuple)


def built(name: str, context: Context) -> Built:
    """Call the user's function.

    Args:
        name: of the function, as `module:function`.

    Raises:
        ConfigError: there is none, or what it returns cannot be trained.
        Exception: whatever it raises.
    """
    set_random_seed(context.seed, using_cuda=context.device != "cpu")  # a model without a seed of its own draws as well
    returned = arguments.object_named(name, "build")(context)
    found = Build(returned) if isinstance(returned, BaseAlgorithm) else returned
    if not isinstance(found, Build):
        raise refused(f"{name} returns {_a(found)}; accepted: Build(model=...), or the model alone")
    if not isinstance(found.model, BaseAlgorithm):
        raise refused(f"the model that {name} returns is {_a(found.model)}; accepted: one of Stable-Baselines3")
    if found.model.num_timesteps:
        raise refused(
            f"the model that {name} returns has been trained for {found.model.num_timesteps:,} timesteps already: "
            "learn() is called by the trainer; to begin with the weights of another training, set model.num_timesteps "
            "= 0"
        )
    if found.model.device.type != context.device.partition(":")[0]:
        raise refused(
            f"the model that {name} returns is on {found.model.device.type}, and the session's device is "
            f"{context.device}: give it device=context.device"
        )
    environments = context.environments_of(found.model.get_env(), f"the model that {name} returns", are_trained_in=True)
    evaluation = environments
    if found.eval_env is not None:
        evaluation = context.environments_of(found.eval_env, f"the eval_env that {name} returns")
        _check_spaces(found.model, found.eval_env)
    callbacks = callbacks_of(found.callbacks, f"the callbacks that {name} returns")
    return Built(found.model, environments, evaluation.for_evaluation(), callbacks)


def _check_spaces(model: BaseAlgorithm, eval_env: VecEnv) -> None:
    shown = model._wrap_env(eval_env, monitor_wrapper=False)
    if (shown.observation_space, shown.action_space) != (model.observation_space, model.action_space):
        raise refused(
            f"eval_env has observations {shown.observation_space} and actions {shown.action_space}, and the model "
            f"{model.observation_space} and {model.action_space}: put around it what is around the model's"
        )


@contextmanager
def tried(scenario: ScenarioConfig, seed: int) -> Iterator[Built]:
    """What the function of a scenario makes, for a look at it; its environments are closed afterwards.

    Raises:
        ConfigError, Exception: see `built`.
    """
    assert scenario.build is not None
    with ExitStack() as resources:
        context = Context(
            seed=seed,
            device="cpu",
            timesteps=scenario.timesteps,
            hyperparameters=scenario.hyperparameters,
            mode_of=lambda _: "none",
            resources=resources,
        )
        yield built(scenario.build, context)


def refused(message: str) -> ConfigError:
    """The error for what a `build` function does."""
    return ConfigError(
        f"build: {message}.",
        safe="nothing was trained and no checkpoint was touched.",
        next_step="correct the function that `build` in section.toml names.",
    )


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _again(layer: VecEnvWrapper) -> Callable[[VecEnv], VecEnv]:
    """Puts the same around another number of environments. Picklable where the layer is."""
    if type(layer) is VecNormalize:
        names = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")
        return partial(VecNormalize, **{name: getattr(layer, name) for name in names})
    if type(layer) is VecFrameStack:
        stacked = layer.stacked_obs
        parts = getattr(stacked, "sub_stacked_observations", None)
        order = _order(stacked) if parts is None else {name: _order(part) for name, part in parts.items()}
        return partial(VecFrameStack, n_stack=stacked.n_stack, channels_order=order)
    if type(layer) is VecMonitor:
        return partial(VecMonitor, info_keywords=layer.info_keywords)
    if type(layer) is VecTransposeImage:
        return VecTransposeImage
    return _Copy(type(layer), {name: value for name, value in vars(layer).items() if name not in _OF_THOSE_BELOW})


def _order(stacked: Any) -> str:
    return "first" if stacked.channels_first else "last"


_OF_THOSE_BELOW = frozenset({"venv", "num_envs", "reset_infos", "class_attributes", "_seeds", "_options"})


@dataclass(frozen=True)
class _Copy:
    """A wrapper of one's own: as it was made; what it keeps for each environment it has to make in its `reset()`."""

    kind: type[VecEnvWrapper]
    attributes: Mapping[str, Any]

    def __call__(self, venv: VecEnv) -> VecEnv:
        made: VecEnvWrapper = self.kind.__new__(self.kind)
        VecEnvWrapper.__init__(made, venv)
        vars(made).update(copy.deepcopy(dict(self.attributes)))
        return made
