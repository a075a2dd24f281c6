"""A Stable-Baselines3 replay buffer seen as rows of a ring, for the replay log.

The log stores the arrays named here; the position in the ring and the other small values travel in the checkpoint's
state. Knows nothing of files.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
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
# What the end of an episode changes in rows that are there.
_ENDS = ("dones", "timeouts", *_REWRITTEN)
_CUT = "rows_cut"

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
            self._most: int = max(MOST_WAITING_BYTES // sum(array[0].nbytes for array in self._arrays.values()), 1)

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

    @property
    def are_too_many(self) -> bool:
        """Whether more wait than are kept for a save."""
        return bool(self._arrays) and self._upto < rows_written(self._model)

    def some(self) -> NewRows:
        """The oldest of those that are too many, as they are now."""
        return self._capture.take(self._arrays, rows=rows_written(self._model), upto=self._upto)

    @property
    def _upto(self) -> int:
        return max(self._capture.rows, rows_written(self._model) - self._capacity) + self._most

    def all(self) -> NewRows | None:
        """All that wait, as they are now; None without a replay buffer."""
        return self._capture.take(self._arrays, rows=rows_written(self._model)) if self._arrays else None


def rows_written(model: BaseAlgorithm) -> int:
    """Rows added since the run began: one for each step of the vectorised environment, from where the rows begin."""
    return model.num_timesteps // model.n_envs - getattr(buffer_of(model), BEFORE_ROWS, 0)


@dataclass(frozen=True)
class _Cut:
    """What the ends of episodes that could not be continued have changed in rows that were in the log already.

    Attributes:
        at: rows written when the newest of them was made.
        rows, values: by array, the rows, counted from the first one the run ever wrote, and what they hold since.
    """

    at: int = 0
    rows: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    values: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def with_changes(self, before: dict[str, Any], now: dict[str, Any], at: int) -> _Cut:
        kept = self.at_save(at, {name: len(array) for name, array in now.items()})
        rows, values = dict(kept.rows), dict(kept.values)
        for name, array in now.items():
            ring = np.flatnonzero((array != before[name]).any(axis=1))
            new = at - 1 - (at - 1 - ring) % len(array)
            older = ~np.isin(rows.get(name, new[:0]), new)
            rows[name] = np.concatenate([rows.get(name, new[:0])[older], new])
            values[name] = np.concatenate([values.get(name, array[:0])[older], array[ring]])
        return _Cut(at, rows, values)

    def at_save(self, rows: int, capacities: dict[str, int]) -> _Cut:
        """What the log does not say by now: it has rewritten arrays as they are, and no row twice."""
        kept = {
            name: own >= rows - capacities[name]
            for name, own in self.rows.items()
            if name not in _REWRITTEN or rows == self.at
        }
        return _Cut(
            self.at,
            {name: self.rows[name][mask] for name, mask in kept.items()},
            {name: self.values[name][mask] for name, mask in kept.items()},
        )


def collect(model: BaseAlgorithm) -> dict[str, Any]:
    """What the rows do not hold; empty without a replay buffer."""
    buffer = buffer_of(model)
    if buffer is None:
        return {}
    names = ["pos", "full", "_current_ep_start", BEFORE_ROWS]
    if getattr(buffer, "copy_info_dict", False):
        names.append("infos")
    state = {name: getattr(buffer, name) for name in names if hasattr(buffer, name)}
    if (cut := getattr(buffer, _CUT, None)) is not None:
        capacities = {name: len(array) for name, array in arrays(model).items()}
        state[_CUT] = vars(cut.at_save(rows_written(model), capacities))
    return state


def restore(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Put `collect`'s state back; the rows themselves come from the log, into `arrays`, before."""
    buffer = buffer_of(model)
    if buffer is None:
        return
    vars(buffer).update(state)
    if _CUT in state:
        cut, live = _Cut(**state[_CUT]), arrays(model)
        setattr(buffer, _CUT, cut)
        for name, rows in cut.rows.items():
            live[name][rows % len(live[name])] = cut.values[name]


def end_open_episodes(model: BaseAlgorithm) -> None:
    """Make the newest transition the last of its episode: what will be stored next does not follow from it.

    As Stable-Baselines3 does it for hindsight replay: cut off, so that values are still bootstrapped, where the buffer
    knows the difference. The log holds that transition as it was, and is only ever appended to: the change is state.
    """
    buffer = buffer_of(model)
    if buffer is None or not buffer.size():
        return
    ends = {name: array for name, array in arrays(model).items() if name in _ENDS}
    before = {name: array.copy() for name, array in ends.items()}
    _end_newest(buffer)
    cut = getattr(buffer, _CUT, _Cut()).with_changes(before, ends, rows_written(model))
    setattr(buffer, _CUT, cut)


def _end_newest(buffer: ReplayBuffer) -> None:
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings(action="ignore"):  # that it does what it is asked
            buffer.truncate_last_trajectory()
    else:
        still_open = buffer.dones[buffer.pos - 1] == 0
        buffer.dones[buffer.pos - 1] = 1
        if buffer.handle_timeout_termination:
            buffer.timeouts[buffer.pos - 1][still_open] = 1
