"""What makes two trainings the same: one digest for each item of state, blind to how objects are laid out in memory.

Two states have the same digest when every number, string and array in them is the same, whichever process built them
and however often it was pickled on the way. Wall-clock times are left out: they are never the same twice and nothing
is computed from them.
"""

from __future__ import annotations

import copyreg
import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

# Attributes that hold wall-clock time (Monitor; a model that waits for its evaluation) or how an environment was
# registered (gymnasium).
_LEFT_OUT = frozenset({"wall_clock", "t_start", "model_attributes", "spec", "_cached_spec"})
# Monitor's summary of an episode: return, length, and a wall-clock time `t`.
_EPISODE = frozenset({"r", "l", "t"})


def digest(value: Any) -> str:
    """128-bit digest of a value: numbers, arrays, tensors, containers, and objects through their pickled parts."""
    hasher = hashlib.blake2b(digest_size=16)
    _feed(hasher, value, ())
    return hasher.hexdigest()


def state_digests(items: Mapping[str, Any]) -> dict[str, str]:
    """A digest for each item, and `all` over them."""
    result = {name: digest(items[name]) for name in sorted(items)}
    return {**result, "all": digest(result)}


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Names of the items that differ or exist on one side only, without `all`."""
    names = (set(first) | set(second)) - {"all"}
    return sorted(name for name in names if first.get(name) != second.get(name))


def _feed(hasher: Any, value: Any, path: tuple[int, ...]) -> None:
    """Feed type tag and content; `path` holds the ids of the objects being visited, to end cycles."""
    if value is None or isinstance(value, bool | str | int | bytes | bytearray):
        _leaf(hasher, type(value).__name__, repr(value).encode())
    elif isinstance(value, float):
        _leaf(hasher, "float", struct.pack("<d", value))
    elif isinstance(value, np.ndarray) and value.dtype != object:
        # Without a copy: the rows of a replay buffer may fill most of the memory there is.
        _leaf(hasher, f"array {value.dtype.str} {value.shape}", np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, np.generic):
        _leaf(hasher, f"scalar {value.dtype.str}", value.tobytes())
    elif isinstance(value, torch.Tensor):
        _leaf(hasher, f"tensor {value.dtype} {tuple(value.shape)}", value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType | ModuleType):
        _leaf(hasher, "name", getattr(value, "__qualname__", getattr(value, "__name__", "")).encode())
    elif id(value) in path:
        _leaf(hasher, "cycle", str(len(path) - path.index(id(value))).encode())
    else:
        _feed_parts(hasher, value, (*path, id(value)))


def _feed_parts(hasher: Any, value: Any, path: tuple[int, ...]) -> None:
    if isinstance(value, Mapping):
        left_out = _LEFT_OUT | {"t"} if value.keys() >= _EPISODE else _LEFT_OUT
        named = sorted(
            ((str(key), item) for key, item in value.items() if key not in left_out), key=lambda pair: pair[0]
        )
        _sequence(hasher, "mapping", [part for pair in named for part in pair], path)
    elif isinstance(value, set | frozenset):
        _sequence(hasher, "set", sorted(digest(item) for item in value), path)
    elif isinstance(value, list | tuple | deque | np.ndarray):
        _sequence(hasher, "sequence", list(value), path)
    elif isinstance(value, np.random.Generator):
        _sequence(hasher, "generator", [value.bit_generator.state], path)
    else:
        # Any other object: the parts its own pickling is made of (maker, arguments, state, items).
        made = copyreg.dispatch_table.get(type(value))
        parts: Any = made(value) if made else value.__reduce_ex__(4)
        if isinstance(parts, str):
            _leaf(hasher, "global", parts.encode())
        else:
            pieces = [list(part) if _is_iterator(part) else part for part in parts]
            _sequence(hasher, type(value).__qualname__, pieces, path)


def _sequence(hasher: Any, tag: str, items: Iterable[Any], path: tuple[int, ...]) -> None:
    items = list(items)
    _leaf(hasher, tag, str(len(items)).encode())
    for item in items:
        _feed(hasher, item, path)


def _leaf(hasher: Any, tag: str, content: bytes | np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    hasher.update(f"{tag}:{len(content)}:".encode())
    hasher.update(content)


def _is_iterator(part: Any) -> bool:
    return hasattr(part, "__next__")
