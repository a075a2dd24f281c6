"""The one place where actions are chosen outside of a training, by a policy and at random: as the training does it.

An environment that says which actions are allowed has a method `action_masks`, as sb3-contrib's `MaskablePPO` asks for
it; a forbidden action may be an error there. A recurrent policy has a state of its own, which begins anew with each
episode: `predict` is given what it returned before, and which episodes have just begun.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

MASKS = "action_masks"
"""The method of an environment, and the argument of `predict`."""
Mask = np.ndarray[Any, Any]


def takes_masks(algorithm: type[BaseAlgorithm]) -> bool:
    """Whether it asks its environments which actions are allowed."""
    return MASKS in inspect.signature(algorithm.predict).parameters


def predictor(model: BaseAlgorithm, vec: VecEnv) -> Callable[..., tuple[Any, Any]]:
    """`model.predict` for observations of `vec` as it stands: only what is allowed there is chosen.

    It takes observations, recurrent states, which episodes have just begun, and in which environments they all are; as
    keywords what else `predict` takes.
    """
    choose: Callable[..., tuple[Any, Any]] = model.predict
    asks = takes_masks(type(model))

    def predict(observations: Any, states: Any, starts: Any, rows: Sequence[int], **options: Any) -> tuple[Any, Any]:
        if asks:
            options[MASKS] = np.stack(vec.env_method(MASKS, indices=rows))
        return choose(observations, states, starts, **options)

    return predict


def answer(model: BaseAlgorithm, observations: Any) -> Any:
    """What a policy in training answers: actions, and whatever it computes with them.

    Raises:
        ValueError: its distribution of actions is none.
    """
    policy: Any = model.policy
    rest: tuple[Any, ...] = ()
    if (states := vars(model).get("_last_lstm_states")) is not None:
        rest = (states, torch.zeros(model.n_envs, device=model.device))
    with torch.no_grad():
        return policy(obs_as_tensor(observations, model.device), *rest)


def masks(env: gym.Env[Any, Any]) -> Mask | None:
    """Which actions an environment allows now, as sb3-contrib has it; None where it does not say."""
    try:
        allowed = env.get_wrapper_attr(MASKS)
    except AttributeError:
        return None
    return np.asarray(allowed(), dtype=np.int8)


def random_action(env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> Any:
    """A random action that the environment allows now, drawn from `space`: by default its own."""
    space = env.action_space if space is None else space
    return sampled(space, masks(env))


def sampled(space: gym.Space[Any], mask: Any) -> Any:
    """A random action of `space` that a mask, as sb3-contrib has it, allows; any one without a mask."""
    if mask is None:
        return space.sample()
    allowed = np.asarray(mask, dtype=np.int8)
    if isinstance(space, gym.spaces.Discrete):
        return space.sample(mask=allowed.reshape(-1))
    if isinstance(space, gym.spaces.MultiDiscrete):  # a mask for each number, one after the other
        return space.sample(mask=tuple(np.split(allowed.reshape(-1), np.cumsum(space.nvec)[:-1])))
    if isinstance(space, gym.spaces.MultiBinary):  # for each bit whether 0, and whether 1 is allowed
        zero, one = allowed.reshape(-1, 2).T
        return space.sample(mask=np.where(zero & one, 2, one).astype(np.int8).reshape(space.shape))
    return space.sample()


def is_allowed(env: gym.Env[Any, Any], action: Any) -> bool:
    """Whether an environment that says which actions it allows does allow this one."""
    allowed, space = masks(env), env.action_space
    if allowed is None:
        return True
    flat = allowed.reshape(-1)
    if isinstance(space, gym.spaces.Discrete):
        return bool(flat[int(action) - int(space.start)])
    sizes = space.nvec if isinstance(space, gym.spaces.MultiDiscrete) else np.full(np.size(action), 2)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return bool(flat[starts + np.asarray(action).reshape(-1)].all())
