"""A video of a trained policy: the first episode of its evaluations, as the environment draws it.

Promises: opens no pickle of the checkpoint, so it may come from anywhere; leaves no trace in the training tree; an
environment that does not draw is said in words, and never ends more than the video.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.sections.input_folders import inputs_here, offer
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.trainer.sb3 import algorithms, code_first, model_file
from kaggle_manager.trainer.sb3.env_state import EntryPoint, EnvFactory
from kaggle_manager.trainer.sb3.environments import Environments, environments_of
from kaggle_manager.trainer.sb3.evaluation import Evaluator
from kaggle_manager.trainer.sb3.pickles import open_statistics

MOST_FRAMES = 3_000
"""A longer episode is cut: a minute and a half at 30 frames a second."""
FRAMES_PER_S = 30

Frame = np.ndarray[Any, Any]


def video_of(
    checkpoint: Checkpoint, scenario: ScenarioConfig, *, section: Section, name: str, project: Path, state: Path
) -> bytes:
    """An MP4 of one episode.

    Args:
        checkpoint: whose model plays.
        scenario: as it was trained. section, name: whose scenario it is, and what it is called there.
        project: folder of the section's sources; state: where its input data may lie.

    Raises:
        ConfigError: the environment does not draw pictures.
        ImportError: what writes a video is not installed.
        KaggleManagerError: data that the environment reads is not on this machine, or the model is damaged.
    """
    import imageio.v2 as imageio

    importlib.import_module("imageio_ffmpeg")  # what it writes an MP4 with

    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    offer(inputs_here(section.inputs_of(name), state))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as files:
        path = Path(folder) / "replay.mp4"
        writers: list[Any] = []

        def show(frame: Frame, frames_per_s: float) -> None:
            if not writers:
                writers.append(imageio.get_writer(path, fps=frames_per_s, codec="libx264", macro_block_size=2))
                files.callback(writers[0].close)
            writers[0].append_data(frame)

        try:
            play(checkpoint, scenario, show)
        except (KaggleManagerError, ImportError):
            raise
        except Exception as error:  # of the user's environment, or of what draws it
            raise _not_drawn(f"{type(error).__name__}: {error}") from error
        files.close()
        return path.read_bytes()


def play(checkpoint: Checkpoint, scenario: ScenarioConfig, show: Callable[[Frame, float], None]) -> None:
    """Play one episode with the model of a checkpoint.

    Args:
        show: given each picture, and how many of them make a second.

    Raises:
        ConfigError: the environment does not draw pictures.
        Exception: whatever the environment raises.
    """
    seed = int(checkpoint.manifest.identity.get("seed") or 0)
    left = [MOST_FRAMES]

    def count() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _LongEnough

    with _model(checkpoint, scenario, seed) as (model, environments):
        filmed = partial(_Filmed, drawing(environments.factory), show)
        evaluator = Evaluator(
            replace(environments, factory=filmed),
            mode="none",
            seed=seed,
            episodes=1,
            deterministic=scenario.evaluation.deterministic,
        )
        with contextlib.suppress(_LongEnough):
            evaluator(model, count)


def drawing(factory: EnvFactory) -> EnvFactory:
    """The same, told to draw; one that cannot be told is taken as it is."""
    if isinstance(factory, EntryPoint):
        return EntryPoint(factory.target, {**factory.kwargs, "render_mode": "rgb_array"})
    return partial(factory, render_mode="rgb_array") if isinstance(factory, partial) else factory


@contextlib.contextmanager
def _model(checkpoint: Checkpoint, scenario: ScenarioConfig, seed: int) -> Iterator[tuple[BaseAlgorithm, Environments]]:
    """The model, with the running normalisation it was saved with; and the environments of its evaluations."""
    with contextlib.ExitStack() as resources:
        if scenario.build is not None:
            made = resources.enter_context(code_first.tried(scenario, seed))
            model, environments = made.model, made.evaluation
        else:
            declared = environments_of(scenario)
            vec = resources.enter_context(contextlib.closing(declared.in_this_process().vectorised("none", seed)))
            given, _ = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
            model = algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=seed, device="cpu")
            environments = declared.for_evaluation()
        model_file.load_parameters(model, checkpoint.read("model"))
        if checkpoint.manifest.file("statistics"):
            checkpoint.read("statistics")  # verified
            model_file.load_statistics(model, open_statistics(checkpoint.path("statistics")))
        yield model, environments


class _LongEnough(Exception):
    """The video has all the frames that it may have."""


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """Shows a picture of what every step came to."""

    def __init__(self, factory: EnvFactory, show: Callable[[Frame, float], None]) -> None:
        super().__init__(factory())
        self._show = show

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        shown = self.env.reset(**given)
        self._draw()
        return shown

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        step = self.env.step(action)
        self._draw()
        return step

    def _draw(self) -> None:
        frame = self.env.render()
        if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.dtype == np.uint8):
            raise _not_drawn(f"render() returns {type(frame).__name__}, and no picture of height x width x 3 bytes")
        self._show(frame, float(self.env.metadata.get("render_fps") or FRAMES_PER_S))


def _not_drawn(why: str) -> ConfigError:
    return ConfigError(
        f"The environment draws no pictures: {why}.",
        safe="the model and its training tree",
        next_step='let it take render_mode="rgb_array" and return pictures from render()',
    )
