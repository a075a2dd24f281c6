"""A Stable-Baselines3 replay buffer seen as rows of a ring, for the replay log.

The log stores the arrays named here; the position in the ring and the other small values travel in the checkpoint's
state. Knows nothing of files.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from kaggle_manager.checkpoints import Checkpoint, Disk, replay_log
from kaggle_manager.checkpoints.replay_capture import NewRows, ReplayCapture

_APPENDED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
# HerReplayBuffer goes back to the rows of an episode when it ends, or when its first row is overwritten.
_REWRITTEN = ("ep_start", "ep_length")

MOST_WAITING_BYTES = 16 << 20
"""Rows that wait for the next save; more of them are handed over before it."""

BEFORE_ROWS = "steps_before_rows"
"""Attribute of a buffer whose rows began later than its training (see `sb3_exchange`): the steps without rows."""


def buffer_of(model: BaseAlgorithm) -> ReplayBuffer | None:
    """The model's replay buffer; None for algorithms that learn from fresh rollouts only."""
    buffer = getattr(model, "replay_buffer", None)
    return buffer if isinstance(buffer, ReplayBuffer) else None


def arrays(model: BaseAlgorithm) -> dict[str, np.ndarray[Any, Any]]:
    """The live ring arrays by name, each of shape (capacity, n_envs, ...); empty without a replay buffer."""
    buffer = buffer_of(model)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in (*_APPENDED, *_REWRITTEN) if buffer is not None else ():
        value = getattr(buffer, name, None)
        if isinstance(value, dict):  # dictionary observations
            found.update({f"{name}.{key}": value[key] for key in sorted(value)})
        elif isinstance(value, np.ndarray):
            found[name] = value
    return found


class WaitingRows:
    """The rows of a model's replay buffer that are not handed over to the log yet."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model, self._arrays = model, arrays(model)
        rewritten = [name for name in _REWRITTEN if name in self._arrays]
        self._in_order = bool(rewritten)
        nexts = {name: name.replace("next_", "", 1) for name in self._arrays if name.startswith("next_")}
        self._capture = ReplayCapture(shared=nexts, rewritten=rewritten)
        if self._arrays:
            self._capacity = len(next(iter(self._arrays.values())))
            self._most = max(MOST_WAITING_BYTES // sum(array[0].nbytes for array in self._arrays.values()), 1)

    def load(self, checkpoint: Checkpoint, disk: Disk) -> None:
        """Put the rows of a checkpoint that was just verified into the buffer.

        Raises:
            CheckpointCorrupt, StorageError: as `replay_log.load`.
        """
        commit = checkpoint.manifest.replay
        if self._arrays and commit is not None:
            folder = checkpoint.tree.replay
            replay_log.load(folder, commit, self._arrays, in_order=self._in_order, verified=True, disk=disk)
            self._capture.restored(self._arrays, commit.rows)

    def too_many(self) -> Iterator[NewRows]:
        """While more wait than are kept for a save: some of them, as they are now."""
        rows = rows_written(self._model) if self._arrays else 0
        while self._arrays and (upto := max(self._capture.rows, rows - self._capacity) + self._most) < rows:
            yield self._capture.take(self._arrays, rows=rows, upto=upto)

    def all(self) -> NewRows | None:
        """All that wait, as they are now; None without a replay buffer."""
        return self._capture.take(self._arrays, rows=rows_written(self._model)) if self._arrays else None


def rows_written(model: BaseAlgorithm) -> int:
    """Rows added since the run began: one for each step of the vectorised environment, from where the rows begin."""
    return model.num_timesteps // model.n_envs - getattr(buffer_of(model), BEFORE_ROWS, 0)


def collect(model: BaseAlgorithm) -> dict[str, Any]:
    """What the rows do not hold; empty without a replay buffer."""
    buffer = buffer_of(model)
    if buffer is None:
        return {}
    names = ["pos", "full", "_current_ep_start", BEFORE_ROWS]
    if getattr(buffer, "copy_info_dict", False):
        names.append("infos")
    return {name: getattr(buffer, name) for name in names if hasattr(buffer, name)}


def restore(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Put `collect`'s state back; the rows themselves come from the log, into `arrays`."""
    buffer = buffer_of(model)
    if buffer is not None:
        vars(buffer).update(state)


def end_open_episodes(model: BaseAlgorithm) -> None:
    """Make the newest transition the last of its episode: what will be stored next does not follow from it.

    As Stable-Baselines3 does it for hindsight replay: cut off, so that values are still bootstrapped, where the buffer
    knows the difference.
    """
    buffer = buffer_of(model)
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings(action="ignore"):  # that it does what it is asked
            buffer.truncate_last_trajectory()
    elif buffer is not None and buffer.size():
        still_open = buffer.dones[buffer.pos - 1] == 0
        buffer.dones[buffer.pos - 1] = 1
        if buffer.handle_timeout_termination:
            buffer.timeouts[buffer.pos - 1][still_open] = 1
