"""A replay buffer that stock Stable-Baselines3 pickled elsewhere, opened without running what else a pickle could hold.

Promises: only the classes a replay buffer is made of are ever looked up; anything else refuses the file before a line
of it is executed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from stable_baselines3.common.buffers import ReplayBuffer

from kaggle_manager.errors import CheckpointCorrupt, UnsafePickle

_ALLOWED = {
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
    ("numpy.random._pcg64", "PCG64"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random.bit_generator", "SeedSequence"),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("gymnasium.spaces.box", "Box"),
    ("gymnasium.spaces.dict", "Dict"),
    ("gymnasium.spaces.discrete", "Discrete"),
    ("gymnasium.spaces.multi_binary", "MultiBinary"),
    ("gymnasium.spaces.multi_discrete", "MultiDiscrete"),
    ("stable_baselines3.common.buffers", "DictReplayBuffer"),
    ("stable_baselines3.common.buffers", "NStepReplayBuffer"),
    ("stable_baselines3.common.buffers", "ReplayBuffer"),
    ("stable_baselines3.her.goal_selection_strategy", "GoalSelectionStrategy"),
    ("stable_baselines3.her.her_replay_buffer", "HerReplayBuffer"),
    ("torch", "device"),
}


def open_buffer(path: Path) -> ReplayBuffer:
    """Return the replay buffer in a file written by `save_replay_buffer`.

    Raises:
        UnsafePickle: the file holds something that is no part of a replay buffer; nothing of it was executed.
        CheckpointCorrupt: it cannot be read as a pickle.
    """
    try:
        with path.open("rb") as file:
            found = _Unpickler(file).load()
    except UnsafePickle:
        raise
    except Exception as error:  # damaged pickles raise all sorts
        raise CheckpointCorrupt(f"{path} cannot be read as a replay buffer: {error}.") from error
    if not isinstance(found, ReplayBuffer):
        raise CheckpointCorrupt(f"{path} holds a {type(found).__name__}, not a replay buffer.")
    return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UnsafePickle(
                f"The replay buffer file asks for {module}.{name}, which is no part of a replay buffer.",
                safe="nothing of the file was executed",
                next_step="take the model in without its replay buffer, if you trust the model",
            )
        return super().find_class(module, name)
