"""The one place where what was pickled is opened, and how far each kind of it is.

    read_plain       what the trainer keeps itself: numbers, texts, arrays and containers of them
    open_buffer      a replay buffer that stock Stable-Baselines3 pickled elsewhere
    open_statistics  a running normalisation (`VecNormalize`) that it pickled elsewhere
    read_tensors     the tensors of a model file
    Apart            anything else, such as the environment: bytes, until `opened` runs whatever they say

Promises: the first four look up only the classes that such a file is made of; what asks for another one is refused
before a line of it is executed. What has another name in the libraries of today is looked up under that.
Never does: decide who may be trusted. `opened`, `opened_with` and `model_attributes` are for a checkpoint that is
vouched for (see `checkpoints.vouched`), and for what this process has pickled itself.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import cloudpickle
import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import json_to_data
from stable_baselines3.common.vec_env import VecNormalize

from kaggle_manager.errors import CheckpointCorrupt, UnsafePickle
from kaggle_manager.trainer.sb3 import host_pickle

_ARRAYS = {
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
}
_NUMPY_CORE = "numpy._core." if find_spec("numpy._core") else "numpy.core."  # NumPy 2 has renamed it
_PLAIN = {*_ARRAYS, ("collections", "deque"), (__name__, "Apart")}
_OF_SPACES = {
    *_ARRAYS,
    ("numpy.random._mt19937", "MT19937"),
    ("numpy.random._pcg64", "PCG64"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"),
    ("numpy.random.bit_generator", "SeedSequence"),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("gymnasium.spaces.box", "Box"),
    ("gymnasium.spaces.dict", "Dict"),
    ("gymnasium.spaces.discrete", "Discrete"),
    ("gymnasium.spaces.multi_binary", "MultiBinary"),
    ("gymnasium.spaces.multi_discrete", "MultiDiscrete"),
}
_OF_A_BUFFER = {
    *_OF_SPACES,
    ("stable_baselines3.common.buffers", "DictReplayBuffer"),
    ("stable_baselines3.common.buffers", "NStepReplayBuffer"),
    ("stable_baselines3.common.buffers", "ReplayBuffer"),
    ("stable_baselines3.her.goal_selection_strategy", "GoalSelectionStrategy"),
    ("stable_baselines3.her.her_replay_buffer", "HerReplayBuffer"),
    ("torch", "device"),
}
_OF_STATISTICS = {
    *_OF_SPACES,
    ("stable_baselines3.common.running_mean_std", "RunningMeanStd"),
    ("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize"),
}


# --- what needs no trust ----------------------------------------------------------------------------------------------


def read_plain(data: bytes) -> Any:
    """Return what was pickled, when it is plain: numbers, texts, arrays and containers of them, and `Apart`.

    Raises:
        UnsafePickle: it asks for more; nothing of it was executed.
        Exception: damaged pickles raise all sorts.
    """
    return _Restricted(io.BytesIO(data), _PLAIN, "the state that a trainer keeps").load()


def open_buffer(path: Path) -> ReplayBuffer:
    """Return the replay buffer in a file written by `save_replay_buffer`.

    Raises:
        UnsafePickle: the file holds something that is no part of a replay buffer; nothing of it was executed.
        CheckpointCorrupt: it cannot be read as a pickle.
    """
    without = "take the model in without its replay buffer, if you trust it"
    found: ReplayBuffer = _opened_as(ReplayBuffer, path, _OF_A_BUFFER, "a replay buffer", without)
    if not hasattr(found, "handle_timeout_termination"):  # before 2.1; as stock `load_replay_buffer` takes it
        found.handle_timeout_termination, found.timeouts = False, np.zeros_like(found.dones)
    return found


def open_statistics(path: Path) -> VecNormalize:
    """Return the running normalisation in a file written by `VecNormalize.save`, without an environment.

    Raises:
        UnsafePickle: the file holds something that is no part of a running normalisation; nothing of it was executed.
        CheckpointCorrupt: it cannot be read as a pickle.
    """
    found: VecNormalize = _opened_as(VecNormalize, path, _OF_STATISTICS, "a running normalisation")
    return found


def _opened_as(kind: type, path: Path, allowed: set[tuple[str, str]], what: str, next_step: str = "") -> Any:
    try:
        with path.open("rb") as file:
            found = _Restricted(file, allowed, what, next_step).load()
    except UnsafePickle:
        raise
    except Exception as error:  # damaged pickles raise all sorts
        raise CheckpointCorrupt(f"{path} cannot be read as {what}: {error}.") from error
    if not isinstance(found, kind):
        raise CheckpointCorrupt(f"{path} holds a {type(found).__name__}, not {what}.")
    return found


def read_tensors(model: bytes, device: torch.device | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state dictionaries of a model file, and its free tensors, by name; what else it holds is not opened.

    Raises:
        UnsafePickle: it asks for more than tensors; nothing of it was executed.
        zipfile.BadZipFile, RuntimeError: it cannot be read.
    """
    found: dict[str, Any] = {}
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        for name in archive.namelist():
            if name.endswith(".pth"):
                content = io.BytesIO(archive.read(name))
                try:
                    found[name.removesuffix(".pth")] = torch.load(content, map_location=device, weights_only=True)
                except pickle.UnpicklingError as error:
                    raise UnsafePickle(
                        f"{name} of the model file asks for more than tensors: {error}",
                        safe="nothing of the file was executed",
                    ) from error
    older = found.pop("tensors", None)  # their name before 0.9
    return found, found.pop("pytorch_variables", older) or {}


class _Restricted(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: set[tuple[str, str]], what: str, next_step: str = "") -> None:
        super().__init__(file)
        self._allowed, self._what, self._next_step = allowed, what, next_step

    def find_class(self, module: str, name: str) -> Any:
        today = _today(module)
        if (today, name) not in self._allowed:
            raise UnsafePickle(
                f"The file asks for {module}.{name}, which is no part of {self._what}.",
                safe="nothing of the file was executed",
                next_step=self._next_step,
            )
        return super().find_class(today, name)


def _today(module: str) -> str:
    """The name that the libraries of today have for a module of a file of older ones, or of newer ones."""
    if module.startswith("gym."):  # which gymnasium continues, since Stable-Baselines3 2.0
        return f"gymnasium.{module.removeprefix('gym.')}"
    for core in ("numpy.core.", "numpy._core."):
        if module.startswith(core):
            return _NUMPY_CORE + module.removeprefix(core)
    return module


# --- what runs the code it names --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Apart:
    """A pickle within a plain state: of objects whose classes are the environment's or a library's."""

    data: bytes

    def opened(self) -> Any:
        return pickle.loads(self.data)


def packed(value: Any) -> Any:
    """`value` as a plain state can hold it: as it is, or the parts of it that are not plain each `Apart`."""
    if _is_plain(value):
        return value
    if type(value) is dict:
        return {key: part if _is_plain(part) else _apart(part) for key, part in value.items()}
    return _apart(value)


def opened(value: Any) -> Any:
    """The inverse of `packed`. Runs whatever was pickled apart.

    Raises:
        Exception: what was pickled with other versions of the libraries raises all sorts.
    """
    if isinstance(value, Apart):
        return value.opened()
    if type(value) is dict:
        return {key: part.opened() if isinstance(part, Apart) else part for key, part in value.items()}
    return value


def model_attributes(model: bytes) -> dict[str, Any]:
    """The attributes of a model file, as stock `load` reads them. Runs whatever was pickled."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return json_to_data(archive.read("data").decode())


def pickled_with(value: Any, shared: Any, *, by_value: bool = False) -> bytes:
    """Pickle `value`; where it refers to `shared`, the reference is kept instead of a copy, so that aliases survive.

    Args:
        by_value: functions and classes that have no name to import them by are kept as their code, which only the same
            version of Python runs.
    """
    buffer = io.BytesIO()
    pickler = _SharingByValue(buffer) if by_value else _Sharing(buffer)
    pickler.shared = shared
    pickler.dump(value)
    return buffer.getvalue()


def opened_with(data: bytes, shared: Any, instead: Mapping[Any, Any] | None = None) -> Any:
    """The inverse of `pickled_with`. Runs whatever was pickled.

    Args:
        instead: what to look up in the place of a class or function.
    """
    return _Shared(io.BytesIO(data), shared, instead or {}).load()


def _apart(value: Any) -> Apart:
    return Apart(host_pickle.dumps(value))


def _is_plain(value: Any) -> bool:
    data = host_pickle.dumps(value)
    try:
        read_plain(data)
    except Exception:  # whatever its reader would refuse or fail at is kept apart, as bytes
        return False
    return True


class _Sharing(pickle.Pickler):
    shared: Any

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)

    def persistent_id(self, obj: Any) -> str | None:
        return "shared" if obj is self.shared else None


class _SharingByValue(cloudpickle.Pickler):  # type: ignore[misc]
    shared: Any

    def persistent_id(self, obj: Any) -> str | None:
        return "shared" if obj is self.shared else None


class _Shared(pickle.Unpickler):
    def __init__(self, file: BinaryIO, shared: Any, instead: Mapping[Any, Any]) -> None:
        super().__init__(file)
        self._shared, self._instead = shared, instead

    def persistent_load(self, pid: Any) -> Any:
        return self._shared

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return self._instead.get(found, found)
