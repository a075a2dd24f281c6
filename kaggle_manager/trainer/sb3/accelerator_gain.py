"""How many times faster than the CPU the accelerator carries a training batch through the policy, in a second.

Small networks are often no faster on a GPU, and GPU hours are what is scarce. Works on copies: neither the policy nor
any random generator of the training is touched.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import obs_as_tensor

# Passes before the clock starts (the first ones load kernels and caches), and the seconds to measure for.
WARM_UP, MEASURE_S = 5, 0.4


def measure_gain(policy: BasePolicy, device: str, batch_size: int) -> float:
    """Passes a second on `device`, over passes a second on the CPU.

    Args:
        policy: of any algorithm; only read.
        batch_size: observations in a pass.

    Raises:
        Exception: whatever the making of a policy of the user's own, or the device, raises.
    """
    with torch.random.fork_rng(), torch.no_grad():
        return _passes_per_s(policy, device, batch_size) / _passes_per_s(policy, "cpu", batch_size)


def _passes_per_s(policy: BasePolicy, device: str, batch_size: int) -> float:
    # Made anew: the noise matrices of gSDE cannot be copied.
    twin = type(policy)(**policy._get_constructor_parameters())
    twin.load_state_dict(policy.state_dict())
    twin.to(device)
    twin.set_training_mode(False)
    batch = obs_as_tensor(_observations(policy.observation_space, batch_size), torch.device(device))
    state = _recurrent_state(twin, batch_size, device)
    for _ in range(WARM_UP):
        twin(batch, *state)
    _finish(device)
    passes, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < MEASURE_S:
        twin(batch, *state)
        _finish(device)
        passes += 1
    return passes / elapsed


def _recurrent_state(policy: Any, batch_size: int, device: str) -> tuple[Any, ...]:
    """What a recurrent policy of sb3-contrib is called with besides: its states, and where episodes begin."""
    lstm = getattr(policy, "lstm_actor", None)
    if lstm is None:
        return ()
    from sb3_contrib.common.recurrent.type_aliases import RNNStates

    zeros = torch.zeros(lstm.num_layers, batch_size, lstm.hidden_size, device=device)
    return RNNStates((zeros, zeros), (zeros, zeros)), torch.zeros(batch_size, device=device)


def _observations(space: spaces.Space[Any], batch_size: int) -> Any:
    """A batch of zeros: what a pass costs does not depend on what it carries."""
    if isinstance(space, spaces.Dict):
        return {name: _observations(part, batch_size) for name, part in space.spaces.items()}
    return np.zeros((batch_size, *(space.shape or ())), dtype=space.dtype)


def _finish(device: str) -> None:
    """A GPU works on after its call returned."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
