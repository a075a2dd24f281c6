"""How the environments of a training are made: the one place, for training, evaluation, probe and every check.

The order around an environment is that of Stable-Baselines3's `make_vec_env` and of RL Baselines3 Zoo: environment,
Monitor, `env_wrapper`, our state, DummyVecEnv or SubprocVecEnv, `vec_env_wrapper`, VecNormalize, VecFrameStack; the
algorithm adds VecTransposeImage. Monitor lies below the wrappers, so that an episode and its return are those of the
environment, whatever a wrapper cuts, skips or clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import env_state, random_state
from kaggle_manager.trainer.sb3.arguments import MISTAKES, Wrapping, refused, text_of, why
from kaggle_manager.trainer.sb3.env_state import EntryPoint, EnvFactory, Mode, StatefulEnv


@dataclass(frozen=True)
class Environments:
    """The environments of a training.

    Attributes:
        factory: makes one, without its wrappers.
        n_envs: how many step together.
        processes: whether each has a process of its own.
        wrappers, vec_wrappers: around each and around all of them, innermost first, in the form of
            `values.read_wrappers` or callable.
        monitor: arguments of `Monitor`.
        normalize: arguments of VecNormalize; None for none.
        frame_stack: how many observations are stacked; 1 for none.
        evaluation_kwargs: of the environment in evaluations, over those of the training.
        table: of section.toml that says so, such as `scenarios.NAME.`, to name a refused key in full.
    """

    factory: EnvFactory
    n_envs: int = 1
    processes: bool = False
    wrappers: Sequence[Any] = ()
    vec_wrappers: Sequence[Any] = ()
    monitor: Mapping[str, Any] = field(default_factory=dict)
    normalize: Mapping[str, Any] | None = None
    frame_stack: int = 1
    evaluation_kwargs: Mapping[str, Any] = field(default_factory=dict)
    table: str = ""

    @property
    def name(self) -> str:
        return self.factory.target if isinstance(self.factory, EntryPoint) else str(text_of(self.factory))

    def wrapped(self, environment: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """One that `factory` has made, in its wrappers alone."""
        made: gym.Env[Any, Any] = self._wrapping(environment)
        return made

    def one(self, mode: Mode, seed: int) -> StatefulEnv:
        """One of them, as a policy sees it but for what is put around all of them."""
        return env_state.make_env(self.factory, mode, seed, self._wrapping, self._monitor)

    def vectorised(self, mode: Mode, seed: int, *, errors: Path | None = None) -> VecEnv:
        """All of them, with all that is around them; see `env_state.make_vec_env`."""
        vec = env_state.make_vec_env(
            self.factory,
            mode,
            seed,
            self.n_envs,
            processes=self.processes,
            errors=errors,
            wrapping=self._wrapping,
            monitor=self._monitor,
        )
        return self.around(vec)

    def around(self, vec: VecEnv) -> VecEnv:
        """`vec` in what is put around all of them; closed when that fails."""
        try:
            vec = Wrapping(self.vec_wrappers, f"{self.table}vec_env_wrapper", VecEnv)(vec)
            if self.normalize is not None:
                with self._blaming("normalize", self.normalize):
                    vec = VecNormalize(vec, **self.normalize)
            if self.frame_stack > 1:
                with self._blaming("frame_stack", self.frame_stack):
                    vec = VecFrameStack(vec, self.frame_stack)
            return vec
        except BaseException:
            env_state.close(vec)
            raise

    def in_this_process(self) -> Environments:
        """The same, for a look at them."""
        return replace(self, processes=False)

    def for_evaluation(self) -> Environments:
        """One of them, as evaluations play it."""
        factory = self.factory
        if self.evaluation_kwargs:
            assert isinstance(factory, EntryPoint)
            factory = EntryPoint(factory.target, {**factory.kwargs, **self.evaluation_kwargs})
        return replace(self.in_this_process(), factory=factory, n_envs=1)

    def check_evaluation(self, trained_in: VecEnv) -> None:
        """Make one environment as evaluations play it, where those have arguments of their own; leaves no trace.

        Raises:
            ConfigError: the environment refuses them, or what it shows or takes is another than in the training.
        """
        if not self.evaluation_kwargs:
            return
        inner = trained_in.unwrapped
        with random_state.preserved(), self._blaming("eval_env_kwargs", self.evaluation_kwargs):
            played = self.for_evaluation().one("none", 0)
            try:
                for name, shown, trained in (
                    ("observations", played.observation_space, inner.observation_space),
                    ("actions", played.action_space, inner.action_space),
                ):
                    if shown != trained:
                        raise ValueError(f"what keeps the {name} {trained}; with it these are {shown}")
            finally:
                env_state.close_one(played)

    @contextmanager
    def _blaming(self, key: str, given: object) -> Iterator[None]:
        """Name `key` for what is refused inside."""
        try:
            yield
        except MISTAKES as error:
            raise refused(f"{self.table}{key}", given, why(error)) from error

    @property
    def _monitor(self) -> dict[str, Any]:
        return {**self.monitor, "key": f"{self.table}monitor_kwargs"}

    @property
    def _wrapping(self) -> Wrapping:
        return Wrapping(self.wrappers, f"{self.table}env_wrapper", gym.Env)


def environments_of(scenario: ScenarioConfig, table: str = "") -> Environments:
    """Those that a scenario of section.toml, in this table of it, speaks of."""
    return Environments(
        factory=EntryPoint(scenario.environment, dict(scenario.environment_kwargs)),
        n_envs=scenario.n_envs,
        processes=scenario.vec_env == "subproc",
        wrappers=scenario.env_wrapper,
        vec_wrappers=scenario.vec_env_wrapper,
        monitor=scenario.monitor_kwargs.model_dump(),
        normalize=scenario.normalization,
        frame_stack=scenario.frame_stack,
        evaluation_kwargs=scenario.eval_env_kwargs,
        table=table,
    )
