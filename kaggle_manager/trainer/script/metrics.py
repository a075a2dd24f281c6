"""What a script tells while it trains: lines `{"step", "name", "value"}` of its `metrics.jsonl`.

Promises: a look reads a bounded number of bytes, of a regular file; the file that is kept is bounded, and a longer
curve gets fewer points; a line that cannot be read is counted and ends nothing; a value that is not finite is a
divergence, told before the checkpoint that came with it is kept.
"""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.errors import Diverged
from kaggle_manager.protocol.metrics import FILE, LONGEST_LINE, Metric, parse_metric
from kaggle_manager.system.files import regular
from kaggle_manager.trainer.runtime import log_lines

MOST_BYTES, AT_ONCE = 8_000_000, 1 << 20
# To thin out so much takes 100 MB of memory at most. Earlier versions kept more.
_MOST_READ = 20_000_000
# A script may tell a value each millisecond: a save belongs to the newest one that is not of a later step.
_REMEMBERED = 10_000


@dataclass
class Metrics:
    """Reads the script's file as it grows, and keeps it in the training tree.

    Attributes:
        path: the script's file. kept: where its lines go; those of earlier sessions are there.
        judged: the name by whose values checkpoints are compared; "" for none.
        warn: told what of it is not kept.
        newest: the last value of each name.
        step: the highest step that was told.
        lowest: the lowest step that this session told; None for none.
        unread: lines that are no such object. left_out: points that are no longer kept.
        diverged_at: the step of a value that is not finite.
    """

    path: Path
    kept: Path
    judged: str = ""
    warn: Callable[[str], None] = log_lines.warn
    step: int = 0
    newest: dict[str, Metric] = field(default_factory=dict)
    unread: int = 0
    left_out: int = 0
    lowest: int | None = None
    diverged_at: int | None = None
    _recent: deque[Metric] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _offset: int = 0
    _rest: bytes = b""
    _refused: bool = False

    def resume_at(self, step: int) -> None:
        """Forget what earlier sessions told of later steps: it was not saved, and is told again."""
        self.step = step
        if not self.kept.is_file():
            return
        with self.kept.open("rb") as file:
            lines = [
                line for line in file.read(_MOST_READ).splitlines() if (it := parse_metric(line)) and it.step <= step
            ]
        for line in lines:
            if metric := parse_metric(line):
                self._note(metric)
        write_atomic(Disk(), self.kept, b"".join(line + b"\n" for line in lines))

    def read(self, looks: int = 1, *, is_over: bool = False) -> None:
        """Take in what was written since the last call; so many bytes for each look that a later call reads the rest.

        Args:
            is_over: nobody writes any more: a last line without its end is one.

        Raises:
            Diverged: a value is not finite.
        """
        try:
            with open(self.path, "rb", opener=regular) as file:
                self._take(file, looks, is_over)
        except FileNotFoundError:
            return  # the script has written none yet
        except OSError as error:
            if not self._refused:
                self._refused = True
                self.warn(f"the points of {FILE} cannot be read or kept now, and are read again later: {error}")

    def at(self, name: str, step: int) -> Metric | None:
        """The newest value of a name that was told of this step or an earlier one."""
        if name == self.judged:
            return next((metric for metric in reversed(self._recent) if metric.step <= step), None)
        metric = self.newest.get(name)
        return metric if metric is not None and metric.step <= step else None

    def _note(self, metric: Metric) -> None:
        self.newest[metric.name] = metric
        if metric.name == self.judged:
            self._recent.append(metric)

    def _take(self, file: BinaryIO, looks: int, is_over: bool) -> None:
        if file.seek(0, os.SEEK_END) < self._offset:  # it was begun anew
            self._offset, self._rest = 0, b""
        file.seek(self._offset)
        for _ in range(looks):
            data = file.read(AT_ONCE)
            read_to = self._offset + len(data)
            if is_over and not data:
                data = b"\n"
            *lines, rest = (self._rest + data).split(b"\n")
            found = [(line, parse_metric(line)) for line in lines]
            good = [*takewhile(lambda it: it[1] is None or math.isfinite(it[1].value), found)]
            size = self._keep([line for line, metric in good if metric is not None])
            # What could not be kept is read once more; what was kept never is.
            self._offset, self._rest = read_to, rest[:LONGEST_LINE]
            for line, metric in good:
                if metric is None:
                    self.unread += bool(line.strip()) and b"null" not in line
                    continue
                self._note(metric)
                self.step = max(self.step, metric.step)
                self.lowest = metric.step if self.lowest is None else min(self.lowest, metric.step)
            if size > MOST_BYTES:
                self._thin_out()
            if len(good) < len(found) and (metric := found[len(good)][1]):
                raise self._diverged(metric)

    def _keep(self, lines: list[bytes]) -> int:
        """Append lines, all of them or none; the size of what is kept now."""
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        with self.kept.open("ab") as file:
            begun = file.tell()
            try:
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()
            except OSError:
                file.truncate(begun)
                raise
            return file.tell()

    def _thin_out(self) -> None:
        """Halve what is kept: of each name the last point in stretches of equal length, so long as that takes."""
        lines = self.kept.read_bytes().splitlines()
        points = [(sys.intern(metric.name), metric.step, line) for line in lines if (metric := parse_metric(line))]
        most, length = 2 * len(points) // 3, 2
        while len(kept := {(name, step // length): line for name, step, line in points}) > most and length < 2**53:
            length *= 2
        left = [*kept.values()][-most:]  # where each point has a name of its own there is more
        write_atomic(Disk(), self.kept, b"".join(line + b"\n" for line in left))
        if not self.left_out:
            self.warn(
                f"{FILE} has more than {MOST_BYTES / 1e6:.0f} MB of points: half of them are left out of the curves "
                "that are kept, evenly, now and whenever they have grown to that again."
            )
        self.left_out += len(lines) - len(left)

    def finish(self) -> None:
        """Say how much could not be read."""
        if self.unread:
            self.warn(f"{self.unread:,} lines of {FILE} are no object with step, name and value.")

    def _diverged(self, metric: Metric) -> Diverged:
        self.diverged_at = metric.step
        return Diverged(
            f"The training has diverged at step {metric.step:,}: {metric.name} is {metric.value}.",
            safe="the checkpoints of earlier steps",
            next_step="lower the learning rate, and start again with --fresh; a value that is not known is written as "
            "null",
        )
