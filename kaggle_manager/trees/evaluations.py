"""The evaluation curve of a training tree, read from `history/evaluations.npz` without numpy.

Promises: what is returned is what the file says, in order of timesteps.
Never does: unpickle; a file that asks for it, or is damaged, is an error and no curve.
"""

from __future__ import annotations

import array
import ast
import math
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.errors import CheckpointCorrupt

MAX_BYTES = 64 << 20
# Kinds of numbers Stable-Baselines3 writes there, as `array` calls them.
_TYPECODES = {"<i8": "q", "<i4": "i", "<f8": "d", "<f4": "f"}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the timestep, the mean return of its episodes, and how many there were."""

    step: int
    mean: float
    episodes: int


def read_evaluations(path: Path) -> list[Evaluation]:
    """Read the curve; empty when there is no file.

    Raises:
        CheckpointCorrupt: the file cannot be understood.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            steps, _ = _read(archive, "timesteps.npy")
            returns, shape = _read(archive, "results.npy")
        episodes = math.prod(shape[1:])
        if len(steps) != shape[0] or episodes < 1:
            raise ValueError(f"{len(steps)} timesteps and results of shape {shape}")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, SyntaxError, TypeError, struct.error, zipfile.BadZipFile) as error:
        raise CheckpointCorrupt(f"{path} cannot be understood: {error}.", safe="the checkpoints") from error
    rows = [returns[index * episodes : (index + 1) * episodes] for index in range(len(steps))]
    return [Evaluation(int(step), math.fsum(row) / episodes, episodes) for step, row in zip(steps, rows, strict=True)]


def _read(archive: zipfile.ZipFile, name: str) -> tuple[array.array[Any], tuple[int, ...]]:
    """One array of an .npz, flat, and its shape. Format: numpy.lib.format, versions 1 and 2."""
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} is larger than {MAX_BYTES:,} bytes")
    data = archive.read(name)
    if data[:6] != b"\x93NUMPY":
        raise ValueError(f"{name} is no array")
    form = "<H" if data[6] == 1 else "<I"
    (length,) = struct.unpack_from(form, data, 8)
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
