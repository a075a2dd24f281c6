"""Whether a training has run away: what of it is not finite any more, and what was not finite first.

A sum is finite only if every number in it is, so a tensor costs one pass and no memory; only where a sum is not finite
are the numbers looked at one by one, for finite ones may add up beyond the largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.errors import Diverged
from kaggle_manager.trainer.sb3 import acting, model_file, replay_rows

_ROWS_AT_ONCE = 4096
_OBSERVATION = "an observation is not finite"
_ADVICE = "lower the learning rate in section.toml and start from zero with --fresh"
"""The program that started the training adds which command that is."""


def in_parameters(parameters: Mapping[str, Any]) -> str:
    """Which tensor of networks, optimizers and free tensors, by name, is not finite; '' for none."""
    found = _not_finite(parameters)
    return found and f"{found} of the model is not finite"


def in_losses(model: BaseAlgorithm) -> str:
    """Which loss of the newest updates is not finite, as Stable-Baselines3 has logged them; '' for none.

    It takes microseconds: a single batch may show what no later one does.
    """
    for name, value in model.logger.name_to_value.items():
        if name.endswith("loss") and isinstance(value, int | float | np.number) and not math.isfinite(value):
            return f"{name} is {float(value)}"
    return ""


def in_rewards(model: BaseAlgorithm) -> str:
    """Whether the replay buffer holds a reward that is not finite, which poisons what is learned from it."""
    buffer = replay_rows.buffer_of(model)
    return "" if buffer is None or _is_finite(buffer.rewards) else "a reward is not finite"


def cause_of(model: BaseAlgorithm, evaluated: Any = None) -> str:
    """What is not finite in a training that an exception has ended, and it very likely died of; '' for nothing.

    Args:
        model: in training.
        evaluated: the observation at which an evaluation ended, if it was one.
    """
    if found := in_parameters({**model.get_parameters(), **model_file.tensors_outside(model)}) or in_losses(model):
        return found
    seen = model._last_obs
    if _not_finite(_as_mapping(seen)):
        return _OBSERVATION
    if _not_finite(_as_mapping(evaluated)):
        return f"in an evaluation {_OBSERVATION}"
    if seen is None or not getattr(model, "_n_updates", 0):
        return ""
    try:
        answer = acting.answer(model, seen)
    except ValueError:  # a distribution of actions that is none
        answer = math.nan
    except Exception:  # a policy of one's own may be called otherwise; what ended the training is what is told
        return ""
    # Finite parameters may be far too large to compute with.
    return "what the policy answers is not finite" if _not_finite({"answer": answer}) else ""


def diverged(model: BaseAlgorithm, what: str, newest: int | None) -> Diverged:
    """The error, which says as well when it was the environment that began it.

    Args:
        what: what was seen.
        newest: timesteps in the newest checkpoint; None when there is none.
    """
    saved = "nothing was saved yet" if newest is None else f"the checkpoint of step {newest:,} is finite, and stays"
    given = _from_environment(model)
    return Diverged(
        f"The training has diverged at step {model.num_timesteps:,}: {what}.{given and f' {given}'}",
        safe=f"{saved}; it is not resumed, for it would diverge again.",
        next_step="correct what the environment gives, or " * (bool(given) or _OBSERVATION in what) + f"{_ADVICE}.",
    )


def _as_mapping(observation: Any) -> Mapping[str, Any]:
    return observation if isinstance(observation, Mapping) else {"observation": observation}


def _not_finite(values: Mapping[str, Any]) -> str:
    """Dotted name of the first number, array or tensor that is not finite; '' for none."""
    return next((name for name, value in _leaves(values, "") if not _is_finite(value)), "")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}.{number}")
    else:
        yield name, value


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, torch.Tensor):
        # bfloat16, which NumPy does not have, or a tensor that has not left its device.
        return not value.is_floating_point() or bool(
            torch.isfinite(value.detach().sum()) or torch.isfinite(value).all()
        )
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            return bool(np.isfinite(value.sum()) or np.isfinite(value).all())
    return True


# --- which came first -------------------------------------------------------------------------------------------------


def _from_environment(model: BaseAlgorithm) -> str:
    """In words, what the environment gave that is not finite, before any action was; '' when it gave no such thing."""
    rows = _rows(model)
    if rows is None:
        return ""
    first_row, stretches = rows
    # Within a row: the observation, the action chosen for it, then what that led to.
    order = {"observations": 0, "actions": 1, "rewards": 2, "next_observations": 2}
    found = []
    for name, arrays in stretches.items():
        kind = name.partition(".")[0]
        if kind in order and (row := _first_not_finite(arrays)) is not None:
            found.append((row, order[kind], kind))
    newest = _as_mapping(model._last_obs)
    if not found and _not_finite(newest):  # not stored yet
        found = [(max(0, model.num_timesteps // model.n_envs - first_row - 1), 2, "observations")]
    if not found or min(found)[2] == "actions":
        return ""
    row, _, kind = min(found)
    gave = "an observation"
    if kind == "rewards":  # on-policy algorithms add to it the value of an episode's last observation
        gave = "a reward" if replay_rows.buffer_of(model) else "a reward, or an episode's last observation,"
    step = max(0, first_row + row + 1) * model.n_envs
    return f"The environment gave {gave} that is not finite first, near step {step:,}."


def _rows(model: BaseAlgorithm) -> tuple[int, dict[str, list[Any]]] | None:
    """The transitions that are still there: the number of the oldest row, and of each array the stretches, in order."""
    if (ring := replay_rows.buffer_of(model)) is not None:
        oldest = ring.pos if ring.full else 0
        arrays = replay_rows.arrays(model).items()
        rows = {name: [array[oldest : ring.size()], array[:oldest]] for name, array in arrays}
        return replay_rows.rows_written(model) - ring.size(), rows
    rollout = getattr(model, "rollout_buffer", None)
    if rollout is None:
        return None
    count = rollout.buffer_size if rollout.full else rollout.pos
    rows = {}
    for name in ("observations", "actions", "rewards"):
        value = getattr(rollout, name)
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        rows |= {key: [_by_time(part, rollout)[:count]] for key, part in parts.items()}
    return model.num_timesteps // model.n_envs - count, rows


def _by_time(array: Any, rollout: Any) -> Any:
    """Once it was learned from, a rollout lies environment by environment."""
    if len(array) == rollout.buffer_size:
        return array
    return array.reshape(rollout.n_envs, rollout.buffer_size, -1).swapaxes(0, 1)


def _first_not_finite(stretches: list[Any]) -> int | None:
    """Number of the first row that holds a number that is not finite."""
    before = 0
    for array in stretches:
        for begin in range(0, len(array) if array.dtype.kind == "f" else 0, _ROWS_AT_ONCE):
            part = array[begin : begin + _ROWS_AT_ONCE]
            bad = ~np.isfinite(part.reshape(len(part), -1)).all(axis=1)
            if bad.any():
                return before + begin + int(bad.argmax())
        before += len(array)
    return None
