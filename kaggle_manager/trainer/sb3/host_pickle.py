"""Pickles in which every tensor lies in the computer's memory, wherever it lay before. The one way into a save.

A tensor of a GPU that is pickled as it is wakes CUDA in the process that reads it. The checkpoint writer never needs a
GPU, and a checkpoint must open on a machine without one.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import torch

Buffers = Callable[[pickle.PickleBuffer], object]


def dumps(value: Any, buffer_callback: Buffers | None = None) -> bytes:
    """As `pickle.dumps`, with tensors of other devices copied to the CPU.

    Args:
        buffer_callback: as in `pickle.dumps`.

    Raises:
        pickle.PicklingError, AttributeError, TypeError: a part cannot be pickled.
    """
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=buffer_callback).dump(value)
    return stream.getvalue()


def dumps_code(value: Any) -> bytes:
    """The same for what holds functions that have no name to be imported by; slower."""
    stream = io.BytesIO()
    _CodePickler(stream, pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


def dumps_attributes(values: dict[str, Any]) -> bytes:
    """Attributes of a model, for `pickle.loads`."""
    try:
        return dumps(values)
    except (pickle.PicklingError, AttributeError, TypeError):  # schedules are often lambda functions
        return dumps_code(values)


def load_storage(data: bytes) -> Any:
    """What torch's own pickles call for a tensor's numbers, to the CPU whatever device they name."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)


def _is_elsewhere(value: Any) -> bool:
    # The data of a parameter are pickled as a tensor of their own.
    return isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter) and value.device.type != "cpu"


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return value.detach().cpu().__reduce_ex__(4) if _is_elsewhere(value) else NotImplemented


class _CodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        if _is_elsewhere(value):
            return value.detach().cpu().__reduce_ex__(4)
        return super().reducer_override(value)
