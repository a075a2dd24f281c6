"""history/tensorboard/: what Stable-Baselines3 logs of a training, as one event file over all sessions.

Points are written at rollout starts, at a phase that is state, and the values gathered for the next point are state
too; a resume first cuts the file back to the points its checkpoint counted. So the curves have no point twice, none
missing and no gap at the seam. One file whatever the number of sessions: TensorBoard's own writer would begin one in
each. Nothing is written where tensorboard is not installed.
"""

from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import make_way, own_folder
from kaggle_manager.system.files import regular
from kaggle_manager.trainer.runtime.log_lines import Caution, warn
from kaggle_manager.trainer.sb3.callbacks import AtRolloutStart

try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError:
    Event = None

FILE_NAME = "events.out.tfevents.all_sessions"
"""TensorBoard takes any name with `tfevents` in it."""

# Of a record: length (8 bytes, little-endian) and its checksum (4) before the data, a checksum (4) behind.
_LENGTH = struct.Struct("<Q")
_BEFORE, _BEHIND = 12, 4


class EventFile(KVWriter):
    """Appends points to an event file; one record holds all values of a point.

    Attributes:
        points: written so far, over all sessions.
    """

    def __init__(self, path: Path) -> None:
        self.points = 0
        self._path = path
        self._caution = Caution("TensorBoard's curves")

    def write(self, key_values: dict[str, Any], key_excluded: Mapping[str, tuple[str, ...]], step: int = 0) -> None:
        """Append one point: the numbers among the values that are not excluded from TensorBoard."""
        if Event is None:
            return
        values = [
            Summary.Value(tag=key, simple_value=float(value))
            for key, value in sorted(key_values.items())
            if "tensorboard" not in key_excluded.get(key, ()) and isinstance(value, int | float | np.number)
        ]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self.points += 1

    def close(self) -> None:
        """Nothing is open between two points."""

    def begin(self) -> None:
        """Start from zero: what a session left that never saved is trained again."""
        self.points = 0
        with self._caution:
            own_folder(Disk(), self._path.parent.parent)
            own_folder(Disk(), self._path.parent)
            make_way(Disk(), self._path)
            self._path.unlink(missing_ok=True)
        if Event is not None:
            self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def cut(self, points: int) -> None:
        """Keep the first `points` points, and tell when there are fewer."""
        if Event is None:
            self.points = points
            return
        if not self._path.is_file():
            self.begin()
        self.points = points
        found = length = 0
        with self._caution, open(self._path, "rb", opener=regular) as file:
            found, length = _whole_records(file, points + 1)  # one more names the format
        if found < points + 1:
            warn(
                f"{self._path.name} has {max(found - 1, 0)} of the {points} points the checkpoint counted; the curves "
                "have a gap, the training has not."
            )
        with self._caution, open(self._path, "r+b", opener=regular) as file:
            file.truncate(length)

    def _append(self, event: Any) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        with self._caution, open(self._path, "ab", opener=regular) as file:
            file.write(record.getvalue())


class TensorBoardLog(AtRolloutStart):
    """Writes a point at the first rollout start at or after every multiple of `every` timesteps, and at the end.

    Args:
        path: the event file.
        every: timesteps between points.
    """

    def __init__(self, path: Path, every: int) -> None:
        super().__init__()
        self._file = EventFile(path)
        self._every = every
        self._written_at = 0

    def attach(self, model: BaseAlgorithm) -> None:
        """Become the logger of `model`, before `learn()`."""
        model.set_logger(Logger(None, [self._file]))

    def _on_training_start(self) -> None:
        if self.model.num_timesteps == 0:
            self._file.begin()

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps // self._every > self._written_at // self._every:
            self._write()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._written_at:
            self._write()

    def _write(self) -> None:
        self._written_at = self.model.num_timesteps
        self.model.dump_logs()

    def state(self) -> dict[str, Any]:
        """Phase, points, and what was recorded since the last point."""
        return {
            "written_at": self._written_at,
            "points": self._file.points,
            "values": dict(self.logger.name_to_value),
            "counts": dict(self.logger.name_to_count),
            "excluded": dict(self.logger.name_to_excluded),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._written_at = state["written_at"]
        self._file.cut(state["points"])
        for mine, saved in (
            (self.logger.name_to_value, state["values"]),
            (self.logger.name_to_count, state["counts"]),
            (self.logger.name_to_excluded, state["excluded"]),
        ):
            mine.clear()
            mine.update(saved)


def is_available() -> bool:
    """Whether tensorboard is installed."""
    return Event is not None


def read_points(path: Path) -> list[tuple[int, str, float]]:
    """(timestep, name, value) of every value, in order, by TensorBoard's own reader; without those of wall-clock time.

    Raises:
        ImportError: tensorboard is not installed.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    points = []
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if not value.tag.startswith("time/"):
                points.append((int(event.step), str(value.tag), float(value.simple_value)))
    return points


def _whole_records(file: BinaryIO, most: int) -> tuple[int, int]:
    """How many of the first `most` records are whole, and where they end."""
    end, size = 0, os.fstat(file.fileno()).st_size
    for number in range(most):
        if end + _BEFORE > size:
            return number, end
        file.seek(end)
        after = end + _BEFORE + _LENGTH.unpack(file.read(_LENGTH.size))[0] + _BEHIND
        if after > size:
            return number, end
        end = after
    return most, end
