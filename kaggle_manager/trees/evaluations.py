"""The evaluation curve of a training tree, read from `history/evaluations.npz` without numpy.

Promises: what is returned is what the file says, in order of timesteps; a file costs as much as a curve may, whatever
it is.
Never does: unpickle; a file that asks for it, is damaged or is too large, is an error in one sentence and no curve.
"""

from __future__ import annotations

import array
import ast
import math
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.errors import CheckpointCorrupt

# Of the file, and of all that is in it: a million values, each evaluation and each episode counted.
MAX_BYTES = 16 << 20
# numpy writes headers of about a hundred characters.
_LONGEST_HEADER = 10_000
_LARGEST_STEP = 2**53
# Kinds of numbers Stable-Baselines3 writes there, as `array` calls them.
_TYPECODES = {"<i8": "q", "<i4": "i", "<f8": "d", "<f4": "f"}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the timestep, mean and standard deviation of its episodes' returns, and how many there were."""

    step: int
    mean: float
    episodes: int
    std: float


def read_evaluations(path: Path) -> list[Evaluation]:
    """Read the curve; empty when there is no file.

    Raises:
        CheckpointCorrupt: the file cannot be understood.
    """
    if not path.exists():
        return []
    with _opened(path) as archive:
        steps, _ = _read(archive, "timesteps.npy")
        returns, shape = _read(archive, "results.npy")
        episodes = math.prod(shape[1:])
        if len(steps) != shape[0] or episodes < 1:
            raise ValueError(f"{len(steps)} timesteps and results of shape {shape}")
        if not all(0 <= step < _LARGEST_STEP for step in steps):
            raise ValueError("a timestep is none")
        rows = [returns[index * episodes : (index + 1) * episodes] for index in range(len(steps))]
        return [
            Evaluation(int(step), _mean(row), episodes, _deviation(row)) for step, row in zip(steps, rows, strict=True)
        ]


def check_checksums(path: Path) -> None:
    """Compare everything in an `.npz` file with the checksums written with it.

    Raises:
        CheckpointCorrupt: it is damaged, or too large for a curve.
    """
    with _opened(path) as archive:
        if bad := archive.testzip():
            raise ValueError(f"{bad} does not have the checksum written with it")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        with Disk().open(path) as file, zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it holds more than {MAX_BYTES:,} bytes")
            yield archive
    # A damaged archive makes the standard library raise nearly anything, its decompressors' own errors included.
    except Exception as error:
        why = str(error) or type(error).__name__
        raise CheckpointCorrupt(f"{path} cannot be understood: {why}.", safe="the checkpoints") from error


def _read(archive: zipfile.ZipFile, name: str) -> tuple[array.array[Any], tuple[int, ...]]:
    """One array of an .npz, flat, and its shape. Format: numpy.lib.format, versions 1 and 2."""
    data = archive.read(name)
    if data[:6] != b"\x93NUMPY":
        raise ValueError(f"{name} is no array")
    form = "<H" if data[6] == 1 else "<I"
    (length,) = struct.unpack_from(form, data, 8)
    if length > _LONGEST_HEADER:
        raise ValueError(f"{name} begins with {length:,} bytes of description")
    begin = 8 + struct.calcsize(form)
    header = ast.literal_eval(data[begin : begin + length].decode("latin1"))
    if header["fortran_order"] and len(header["shape"]) > 1:
        raise ValueError(f"{name} is not in the order of C")
    values = array.array(_TYPECODES[header["descr"]], data[begin + length :])
    if sys.byteorder == "big":
        values.byteswap()
    shape = tuple(int(count) for count in header["shape"])
    if len(values) != math.prod(shape):
        raise ValueError(f"{name} has {len(values)} values where {shape} are announced")
    return values, shape


def _mean(row: array.array[Any]) -> float:
    """NaN where the returns have none: infinities of both signs, or a sum beyond what a number holds."""
    try:
        return math.fsum(row) / len(row)
    except (OverflowError, ValueError):
        return math.nan


def _deviation(row: array.array[Any]) -> float:
    """Of all episodes, as `numpy.std` has it; NaN as `_mean`."""
    mean = _mean(row)
    try:
        return math.sqrt(math.fsum((value - mean) ** 2 for value in row) / len(row))
    except (OverflowError, ValueError):
        return math.nan
