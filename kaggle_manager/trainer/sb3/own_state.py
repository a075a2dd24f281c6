"""What code of the user's says of its own state: `state()` and `load_state(state)` of a callback or of a class.

Promises: whatever is wrong with either is an error that names who says it, and where.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kaggle_manager.errors import ConfigError
from kaggle_manager.trainer.sb3 import host_pickle

_WANTED = "state() returns numbers, texts, arrays and containers of them, and load_state(state) takes what it returned"


def state_of(holder: Any, who: str) -> Any:
    """What `state()` of it returns.

    Args:
        who: for errors, such as "callback Curriculum".

    Raises:
        ConfigError: it raises, or what it returns has no pickle.
    """
    try:
        state = holder.state()
    except Exception as error:
        raise _failed(f"The {who} cannot be saved: its state() raises", error) from error
    try:
        if not _is_plain(state):
            host_pickle.dumps(state)
    except Exception as error:
        raise _failed(f"The {who} cannot be saved: what its state() returns has no pickle:", error) from error
    return state


def load_into(holder: Any, state: Any, who: str) -> None:
    """Give it what its `state()` has returned.

    Raises:
        ConfigError: it does not take that.
    """
    try:
        holder.load_state(state)
    except Exception as error:
        raise _failed(f"The {who} cannot be put back: its load_state() raises", error) from error


def _failed(what: str, error: Exception) -> ConfigError:
    [*_, last] = traceback.extract_tb(error.__traceback__)
    return ConfigError(
        f"{what} {type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno}, in {last.name}).",
        safe="the checkpoints written before still load.",
        next_step=f"correct it: {_WANTED}.",
    )


def _is_plain(value: Any) -> bool:
    """Whether it is certain that it has a pickle, at no cost: it may be large."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(_is_plain(key) and _is_plain(part) for key, part in value.items())
    if isinstance(value, list | tuple | set):
        return type(value) in (list, tuple, set) and all(map(_is_plain, value))
    if type(value) is np.ndarray:
        return bool(value.dtype != object)
    return value is None or type(value) in (bool, int, float, str, bytes, torch.Tensor)
