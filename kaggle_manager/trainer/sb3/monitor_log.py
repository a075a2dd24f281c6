"""history/monitor.csv: one row for each training episode, one curve over all sessions.

The file has the format of Stable-Baselines3's Monitor, so `load_results` and the usual plotting tools read it. Rows
are appended at rollout starts, a second's worth at once, and before each save; a resume first cuts the file back to
the rows its checkpoint counted, so that the steps trained again are not written twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import own_folder, write_atomic
from kaggle_manager.system.files import regular
from kaggle_manager.trainer.runtime.log_lines import Caution, warn

_COLUMNS = ("r", "l", "t", "step")
_NO_SEPARATORS = str.maketrans({",": ";", "\n": " ", "\r": " "})
_HEADER_LINES = 2
# In characters. The header names the environment, and a row is three numbers and what an environment tells beside.
_LONGEST_ROW = 10_000
# An early episode of CartPole has ten steps: opening the file at each end took 3 % of the training's time.
_WRITTEN_EVERY_S = 1.0


class MonitorLog(BaseCallback):
    """Writes of every episode its return, length, time (seconds of training, over all sessions) and last timestep.

    Lengths do not add up to timesteps where a wrapper around Monitor repeats actions, as that of Atari does.

    Args:
        path: the file.
        environment: its name, for the header.
        elapsed: seconds since this session began.
        keywords: what else Monitor tells of an episode, its `info_keywords`.
    """

    def __init__(
        self, path: Path, environment: str, elapsed: Callable[[], float], keywords: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._path = path
        self._keywords = tuple(keywords)
        columns = ",".join((*_COLUMNS, *self._keywords))
        self._header = f"#{json.dumps({'t_start': 0.0, 'env_id': environment})}\n{columns}\n"
        self._elapsed = elapsed
        self._seconds_before = 0.0
        self._rows = 0
        self._waiting: list[str] = []
        self._written_at = 0.0
        self._caution = Caution(path.name)

    @property
    def training_seconds(self) -> float:
        """Seconds over all sessions, up to now."""
        return self._seconds_before + self._elapsed()

    def _on_training_start(self) -> None:
        if self.model.num_timesteps == 0:
            # What a session left that was killed before its first checkpoint is trained again.
            self._cut([])

    def _on_rollout_start(self) -> None:
        if self._elapsed() - self._written_at >= _WRITTEN_EVERY_S:
            self._write()

    def _on_step(self) -> bool:
        rows = [info["episode"] for info in self.locals.get("infos", ()) if "episode" in info]
        if rows:
            seconds = round(self.training_seconds, 3)
            self._waiting += [self._line(row, seconds, self.num_timesteps) for row in rows]
            self._rows += len(rows)
        return True

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        self._written_at = self._elapsed()
        waiting, self._waiting = self._waiting, []
        with self._caution, open(self._path, "a", encoding="utf-8", newline="\n", opener=regular) as file:
            file.write("".join(waiting))

    def _line(self, row: Mapping[str, Any], seconds: float, step: int) -> str:
        also = (str(row.get(key, "")) for key in self._keywords)
        plain = (
            text.translate(_NO_SEPARATORS) for text in (str(row["r"]), str(row["l"]), str(seconds), str(step), *also)
        )
        return ",".join(plain) + "\n"

    def state(self) -> dict[str, Any]:
        """What a resume needs; the rows that are counted in it are in the file."""
        self._write()
        return {"rows": self._rows, "wall_clock": self.training_seconds}

    def load_state(self, state: dict[str, Any]) -> None:
        self._rows = state["rows"]
        self._seconds_before = max(0.0, state["wall_clock"] - self._elapsed())
        lines = self._first(self._rows)
        if len(lines) < self._rows:
            warn(
                f"{self._path.name} has {len(lines)} of the {self._rows} episodes the checkpoint counted; "
                "the curve has a gap, the training has not."
            )
        self._cut(lines)

    def _first(self, rows: int) -> list[str]:
        """As many rows as there are, whatever became of the file: it is a curve, and no reason to end a training."""
        if not self._path.is_file():
            return []
        with self._caution, open(self._path, encoding="utf-8", errors="replace", opener=regular) as file:
            lines = iter(lambda: file.readline(_LONGEST_ROW), "")
            return [line.rstrip("\n") for line in islice(lines, _HEADER_LINES, _HEADER_LINES + rows)]
        return []

    def _cut(self, lines: list[str]) -> None:
        with self._caution:
            own_folder(Disk(), self._path.parent)
            write_atomic(Disk(), self._path, (self._header + "".join(f"{line}\n" for line in lines)).encode())
