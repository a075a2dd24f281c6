"""Environments that can be put back exactly where they were.

`StatefulEnv` is the outermost wrapper of each sub-environment; it lives where the environment lives, so the same two
methods work in this process and in a worker process. `collect` and `restore` cover a whole vectorised environment:
every layer's own attributes (running statistics, frame stacks, buffers) and every sub-environment. Objects other code
holds on to - the vectorised environment, its layers, the action space - are updated in place, never replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper
from torch.storage import _load_from_bytes

from kaggle_manager.errors import ConfigError, KaggleManagerError, RunError
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session_clock import outlive_stop_signals
from kaggle_manager.trainer.sb3 import host_pickle, random_state
from kaggle_manager.trainer.sb3.action_replay import EpisodeLog, simulate_again, wrap_simulator
from kaggle_manager.trainer.sb3.arguments import refused
from kaggle_manager.trainer.sb3.env_processes import LeavesErrors, leaving_errors
from kaggle_manager.trainer.sb3.env_statistics import below_normalised_rewards, statistics_in
from kaggle_manager.trainer.sb3.pickles import opened_with, pickled_with
from kaggle_manager.trainer.sb3.state_digest import digest

# For an environment to end its simulator in, seconds.
CLOSING_S = 10.0
_UNCLOSED = f"the close() of an environment has not ended after {CLOSING_S:g} s"

_PYTHON = ".".join(map(str, sys.version_info[:2]))
Mode = Literal["pickle", "action-replay", "none"]
EnvFactory = Callable[[], gym.Env[Any, Any]]
Wrapping = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]

# What belongs to the process that runs, not to the state of the training.
_NOT_STATE = frozenset(
    {"venv", "envs", "remotes", "work_remotes", "processes", "waiting", "closed", "observation_space", "action_space",
     "metadata", "render_mode", "num_envs", "class_attributes"}
)  # fmt: skip


@dataclass(frozen=True)
class EntryPoint:
    """An environment by name: `module:callable`, called with keyword arguments. Picklable.

    Raises (when called):
        ConfigError: no such module or callable.
    """

    target: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> gym.Env[Any, Any]:
        module_name, _, name = self.target.partition(":")
        try:
            make = getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"The environment {self.target!r} cannot be imported: {error}",
                safe="nothing was trained and no checkpoint was touched.",
                next_step="correct `environment` in section.toml, or install what it needs.",
            ) from error
        environment: gym.Env[Any, Any] = make(**self.kwargs)
        return environment


class EpisodeMonitor(Monitor[Any, Any]):
    """Episode statistics without the list of all episodes in its state, which would grow with the run.

    Attributes:
        cut: return and length of an episode that a wrapper around has cut off, once the next one has begun.
        key: of section.toml that its arguments are from.
    """

    cut: tuple[float, int] | None = None

    def __init__(self, env: gym.Env[Any, Any], *, key: str = "monitor_kwargs", **given: Any) -> None:
        super().__init__(env, **given)
        self.key = key

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        if self.rewards and not self.needs_reset:
            self.cut = (sum(self.rewards), len(self.rewards))
        if not self.needs_reset and not self.allow_early_resets:
            accepted = "true, for what is around the environment begins an episode before the last one has ended"
            raise refused(f"{self.key}.allow_early_resets", False, accepted)
        return super().reset(**given)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            return super().step(action)
        except KeyError as error:
            if not self.needs_reset or error.args[0] not in self.info_keywords:  # it is of the environment
                raise
            accepted = "names in the `info` of an episode's last step; there is none of that name"
            raise refused(f"{self.key}.info_keywords", error.args[0], accepted) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "episode_returns": [], "episode_lengths": [], "episode_times": []}


class StatefulEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Outermost wrapper of one environment; its state is everything below it.

    An episode is over when the monitor below says so, or when a wrapper around it, such as a time limit, has the next
    one begun; one that only ends what the policy sees, as those of Atari do with each life, does not.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._by_value = False
        self._last: dict[str, Any] | None = None
        # Held by the algorithm and by the vectorised environment: must stay the same object for ever.
        self._shared_space = env.action_space

    def exact_state(self) -> dict[str, Any]:
        """The environment, its action space's generator and, in a worker process, the process's generators."""
        state: dict[str, Any] = {"env": self._pickled(), "action_space": space_rng(self._shared_space)}
        if self._by_value:
            state["functions_of"] = _PYTHON
        if multiprocessing.parent_process() is not None:
            state["random"] = random_state.collect()
        return state

    def restore_exact_state(self, state: dict[str, Any]) -> str:
        """Become what `exact_state` described; return what kept it from that, or ''.

        Returned and not raised: an exception ends the worker process an environment may live in. What was replayed may
        not have repeated itself, and what another version of a library pickled raises all sorts.
        """
        try:
            if state.get("functions_of", _PYTHON) != _PYTHON:
                raise RunError(f"it has functions without a name, kept by Python {state['functions_of']}")
            restored = opened_with(state["env"], self._shared_space)
            close_one(self.env)
            self.env = restored
            set_space_rng(self._shared_space, state["action_space"])
            if "random" in state:
                random_state.restore(state["random"])
        except Exception as error:
            return told(error)
        return ""

    def _pickled(self) -> bytes:
        """By what is imported where it is opened; with wrappers that hold functions without a name, also by value."""
        if not self._by_value:
            try:
                return pickled_with(self.env, self._shared_space)
            except Exception:  # of the user's objects, which raise all sorts
                self._by_value = True
        return pickled_with(self.env, self._shared_space, by_value=True)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        step = self.env.step(action)
        self._last = step[4] if (step[2] or step[3]) and "episode" not in step[4] else None
        return step

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        shown = self.env.reset(**given)
        monitor = unwrap_wrapper(self.env, EpisodeMonitor)
        if isinstance(monitor, EpisodeMonitor) and monitor.cut is not None:
            (paid, length), monitor.cut = monitor.cut, None
            if self._last is not None:  # the vectorised environment holds the same dictionary until it has reset
                told = {key: self._last[key] for key in monitor.info_keywords if key in self._last}
                spent = round(time.time() - monitor.t_start, 6)
                self._last["episode"] = {"r": round(paid, 6), "l": length, "t": spent, **told}
        self._last = None
        return shown

    def statistics(self) -> dict[str, list[str]]:
        """See `env_statistics.statistics_in`."""
        return statistics_in(self.env)


def _as_it_is(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env


def make_env(
    factory: EnvFactory,
    mode: Mode,
    seed: int,
    wrapping: Wrapping = _as_it_is,
    monitor: Mapping[str, Any] | None = None,
) -> StatefulEnv:
    """One environment as the trainer uses it: simulator, action log if needed, episode statistics, wrappers, state.

    Args:
        wrapping: puts the wrappers around it; picklable.
        monitor: arguments of `Monitor`.
    """
    env = wrap_simulator(factory, seed) if mode == "action-replay" else factory()
    wrapped = wrapping(_monitored(env, monitor or {}))
    # Nobody else seeds the spaces of further environments; an environment may sample its own.
    for layer in (env, wrapped):
        layer.action_space.seed(seed)
        layer.observation_space.seed(seed)
    return StatefulEnv(wrapped)


def _monitored(env: gym.Env[Any, Any], given: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """With its monitor: around it, and below what divides rewards by statistics, for such rewards compare nothing."""
    given = {**given, "info_keywords": tuple(given.get("info_keywords", ()))}
    normaliser = below_normalised_rewards(env)
    if normaliser is None:
        return EpisodeMonitor(env, **given)
    normaliser.env = EpisodeMonitor(normaliser.env, **given)
    return env


def make_vec_env(
    factory: EnvFactory,
    mode: Mode,
    seed: int,
    n_envs: int = 1,
    *,
    processes: bool = False,
    errors: Path | None = None,
    wrapping: Wrapping = _as_it_is,
    monitor: Mapping[str, Any] | None = None,
) -> VecEnv:
    """`n_envs` environments, in this process or each in a process of its own; the i-th has the seed `seed + i`.

    Args:
        errors: the folder where those processes leave what ends them, see `env_processes`.
        wrapping, monitor: as for `make_env`.
    """
    makers = [_Maker(factory, mode, seed + index, errors, wrapping, monitor or {}) for index in range(n_envs)]
    if processes and "forkserver" in multiprocessing.get_all_start_methods():
        # The workers' parent imports torch once; otherwise each worker does, which takes seconds.
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    vec = SubprocVecEnv(makers) if processes else DummyVecEnv(makers)  # type: ignore[arg-type]
    vec.seed(seed)
    return vec


def close(vec: VecEnv) -> None:
    """Close the environments, whatever state their processes are in: one may be gone, or have stopped to answer.

    Nothing depends on it: one that does not close is left, with a warning.
    `SubprocVecEnv.close` would wait for ever for an answer that it has read, and the end of this interpreter for a
    process that outlives its SIGTERM.
    """
    innermost = vec.unwrapped
    if not isinstance(innermost, SubprocVecEnv):
        close_one(vec)
        return
    for remote in innermost.remotes:
        with contextlib.suppress(OSError):
            remote.send(("close", None))
    deadline = time.monotonic() + CLOSING_S
    for process in innermost.processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            warn(f"{_UNCLOSED}: its process is ended")
        process.kill()
        process.join()
    innermost.closed = True


class _DoesNotClose(BaseException):
    """No `Exception`, which the user's code may catch."""


def close_one(env: VecEnv | gym.Env[Any, Any]) -> None:
    """Close an environment, or several in this process: for a bounded time, and what it raises is a warning."""
    try:
        with _bounded(CLOSING_S):
            env.close()
    except _DoesNotClose:
        warn(f"{_UNCLOSED}: it is left as it is")
    except Exception as error:
        warn(f"the close() of an environment failed: {told(error)}")


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise `_DoesNotClose` inside when that takes too long, and again each second if it is caught there.

    Where there are no alarms (Windows, a thread) it may take as long as it takes.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    has_ended = False

    def give_up(_number: int, _frame: FrameType | None) -> None:
        if not has_ended:
            raise _DoesNotClose

    handler = signal.signal(signal.SIGALRM, give_up)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        try:
            yield
        finally:
            has_ended = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)


def layers_of(vec: VecEnv) -> Iterator[VecEnv]:
    """What is around vectorised environments, outermost first, and at last these."""
    layer = vec
    while isinstance(layer, VecEnvWrapper):
        yield layer
        layer = layer.venv
    yield layer


def collect(vec: VecEnv, mode: Mode) -> dict[str, Any]:
    """State of every layer, outermost first, and of every sub-environment (none where exactness is impossible)."""
    layers = [_plain(layer) for layer in layers_of(vec)]
    environments = [] if mode == "none" else vec.env_method("exact_state")
    return {"layers": layers, "environments": environments}


def digests(state: dict[str, Any]) -> dict[str, Any]:
    """Digests of what `collect` returned, equal for equal states, whose pickles may differ. Runs no simulator."""
    instead = {simulate_again: _LoggedEpisode, _load_from_bytes: host_pickle.load_storage}  # which wakes no GPU
    environments = []
    for saved in state["environments"]:
        env = opened_with(saved["env"], "the action space", instead)
        environments.append(digest({**saved, "env": env}))
    return {"layers": [digest(layer) for layer in state["layers"]], "environments": environments}


def restore(vec: VecEnv, state: dict[str, Any]) -> None:
    """Put `collect`'s state into the layers and environments of `vec`.

    Raises:
        RunError: see `StatefulEnv.restore_exact_state`; the layers are restored, the environments are not.
        Exception: the layers are not those of the state.
    """
    for layer, saved in zip(layers_of(vec), state["layers"], strict=True):
        vars(layer).update(saved)
    for index, saved in enumerate(state["environments"]):
        [problem] = vec.env_method("restore_exact_state", saved, indices=[index])
        if problem:
            raise RunError(problem, safe="the checkpoint is intact; only open episodes cannot be continued.")


def told(error: Exception) -> str:
    """An error in a line."""
    return error.message if isinstance(error, KaggleManagerError) else f"{type(error).__name__}: {error}"


def space_rng(space: gym.Space[Any]) -> list[dict[str, Any]]:
    """States of a space's own generators; those that nothing has used yet are created here."""
    return [dict(generator.state) for generator in _generators(space)]


def set_space_rng(space: gym.Space[Any], states: list[dict[str, Any]]) -> None:
    """Put a space's generators back, in place."""
    for generator, state in zip(_generators(space), states, strict=True):
        generator.state = state


def _generators(space: gym.Space[Any]) -> Iterator[np.random.BitGenerator]:
    """Of the space and of the spaces it is made of."""
    yield space.np_random.bit_generator
    parts = getattr(space, "spaces", ())
    for part in parts.values() if isinstance(parts, Mapping) else parts:
        yield from _generators(part)


@dataclass(frozen=True)
class _Maker:
    factory: EnvFactory
    mode: Mode
    seed: int
    errors: Path | None
    wrapping: Wrapping
    monitor: Mapping[str, Any]

    def __call__(self) -> gym.Env[Any, Any]:
        if multiprocessing.parent_process() is not None:
            outlive_stop_signals()
            set_random_seed(self.seed)  # nobody else seeds the generators of a worker process
        if self.errors is None:
            return self._make()
        with leaving_errors(self.errors):
            return LeavesErrors(self._make(), self.errors)

    def _make(self) -> StatefulEnv:
        return make_env(self.factory, self.mode, self.seed, self.wrapping, self.monitor)


@dataclass(frozen=True)
class _LoggedEpisode:
    """What stands in a digest for an episode that restoring would simulate again."""

    factory: EnvFactory
    log: EpisodeLog


def _plain(layer: VecEnv) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name not in _NOT_STATE}
