"""The process-wide random number generators: Python's, NumPy's, torch's on the CPU and on every GPU in use.

`collect` and `restore` are exact: the next draw after a restore is the one that would have followed the collect.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def collect() -> dict[str, Any]:
    """The state of every generator, as plain values."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "cuda": [state.numpy().tobytes() for state in _cuda_states()],
    }


def restore(state: dict[str, Any]) -> None:
    """Put every generator back. A generator missing from `state` is left alone."""
    if "python" in state:
        random.setstate(state["python"])
    if "numpy" in state:
        np.random.set_state(state["numpy"])
    if "torch" in state:
        torch.set_rng_state(_tensor(state["torch"]))
    if state.get("cuda") and torch.cuda.is_available():
        # A checkpoint from more GPUs than are here: the ones that exist are restored.
        for index, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(_tensor(saved), index)


@contextmanager
def preserved() -> Iterator[None]:
    """Leave the generators as they were found, whatever runs inside."""
    before = collect()
    try:
        yield
    finally:
        restore(before)


def _cuda_states() -> list[torch.Tensor]:
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if in_use else []


def _tensor(state: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(state, dtype=np.uint8).copy())
