"""Environments in processes of their own: what ends one of them is known where the training runs.

Stable-Baselines3's worker dies of an exception of its environment, and the training only sees a broken pipe. Here the
worker leaves the exception in a file first.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym

from kaggle_manager.errors import RunError
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.sb3.worker_process import that_travels

_SUFFIX = ".error"


@contextlib.contextmanager
def errors_of_processes() -> Iterator[Path]:
    """Give a folder for `leaving_errors`; what was left there is raised in the place of the broken pipe.

    Raises:
        Exception: of the environment, as in a call, with the traceback of its process.
        RunError: a process is gone and has left nothing.
    """
    with scratch_folder("km_environments_") as folder:
        try:
            yield folder
        except (EOFError, ConnectionError) as broken:
            if Path(traceback.extract_tb(broken.__traceback__)[-1].filename).name != "connection.py":
                raise
            for left in folder.glob(f"*{_SUFFIX}"):
                raise pickle.loads(left.read_bytes()) from None
            raise RunError(
                "The process of an environment is gone and left no error; was it out of memory?",
                safe="the checkpoints written before still load",
                next_step="see the lines above in the log; with fewer environments (n_envs) less memory is needed",
            ) from broken


@contextlib.contextmanager
def leaving_errors(folder: Path) -> Iterator[None]:
    """In the process of an environment: what is raised inside, which will end it, is left in `folder` as well."""
    try:
        yield
    except Exception as error:
        part = folder / f"{os.getpid()}.part"
        with contextlib.suppress(OSError):
            part.write_bytes(pickle.dumps(that_travels(error, "the process of an environment")))
            part.replace(part.with_suffix(_SUFFIX))
        raise


class LeavesErrors(gym.Wrapper[Any, Any, Any, Any]):
    """Around an environment in a process of its own; `folder` as for `leaving_errors`."""

    def __init__(self, env: gym.Env[Any, Any], folder: Path) -> None:
        super().__init__(env)
        self._folder = folder

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        with leaving_errors(self._folder):
            return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with leaving_errors(self._folder):
            return super().step(action)
