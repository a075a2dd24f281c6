"""The model file of a checkpoint, written the way Stable-Baselines3 writes it: stock `Algorithm.load()` opens it.

`snapshot` gathers what the file will hold without copying it; `load_parameters` and `read_policy` read tensors only and
never open the pickled Python objects in the file.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr, save_to_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from kaggle_manager.checkpoints.contents import Content
from kaggle_manager.trainer.sb3 import host_pickle, older_files
from kaggle_manager.trainer.sb3.algorithms import algorithm_class, is_ars, policy_of
from kaggle_manager.trainer.sb3.arguments import hyperparameters_of
from kaggle_manager.trainer.sb3.env_state import layers_of
from kaggle_manager.trainer.sb3.pickles import read_tensors


@dataclass(frozen=True)
class ModelSnapshot:
    """A model at one instant, by reference: to be written, or pickled, before the training continues.

    Tensors are seen as NumPy arrays, which cost a fraction of a tensor to pickle.

    Attributes:
        data: its attributes that are not tensors.
        parameters: state dictionaries of networks and optimizers, by name.
        variables: tensors outside of them (the entropy coefficient of SAC), by name.
        statistics: the running normalisation around the environment, as `statistics_of`; b"" for none.
    """

    data: dict[str, Any]
    parameters: dict[str, Any]
    variables: dict[str, Any]
    statistics: bytes = b""

    def files(self) -> dict[str, Content]:
        """What a checkpoint needs so that the policy can be used, by role."""
        files: dict[str, Content] = {"model": self.to_bytes()}
        return files | ({"statistics": self.statistics} if self.statistics else {})

    def to_bytes(self) -> bytes:
        """The zip file."""
        buffer = io.BytesIO()
        tensors: dict[int, torch.Tensor] = {}
        save_to_zip_file(
            buffer,
            data=self.data,
            params=_as_tensors(self.parameters, tensors),
            pytorch_variables=_as_tensors(self.variables, tensors),
        )
        return buffer.getvalue()


def snapshot(model: BaseAlgorithm) -> ModelSnapshot:
    """What `model.save()` would write now, and `save()` of the running normalisation around its environment."""
    state_dicts, variables = model._get_torch_save_params()
    # The same choice of attributes as in `BaseAlgorithm.save`.
    left_out = {*model._excluded_save_params(), *(name.split(".")[0] for name in [*state_dicts, *variables])}
    data = {name: value for name, value in vars(model).items() if name not in left_out}
    arrays: dict[Any, Any] = {}
    parameters, variables = _as_arrays(model.get_parameters(), arrays), _as_arrays(tensors_outside(model), arrays)
    return ModelSnapshot(data, parameters, variables, statistics_of(model))


def load_statistics(model: BaseAlgorithm, saved: VecNormalize) -> None:
    """Put running statistics into the normalisation around the model's environment.

    Raises:
        ValueError: there is none, or its observations have other shapes.
    """
    own = next(iter(normalisations(model.get_env())), None)
    if own is None:
        raise ValueError("the training has no running normalisation (`normalize`)")
    theirs, ours = _shapes(saved), _shapes(own)
    if theirs != ours:
        raise ValueError(f"observations are normalised by shape {theirs} in it, and {ours} is configured")
    if own.norm_obs:
        own.obs_rms = saved.obs_rms
    own.ret_rms = saved.ret_rms


def _shapes(normalisation: VecNormalize) -> Any:
    """Of the observations it has statistics of; "none" where it leaves them as they are."""
    statistics = normalisation.obs_rms if normalisation.norm_obs else None
    if isinstance(statistics, dict):
        return {name: list(part.mean.shape) for name, part in sorted(statistics.items())}
    return "none" if statistics is None else list(statistics.mean.shape)


def statistics_of(model: BaseAlgorithm) -> bytes:
    """The running normalisation around the model's environment: stock `VecNormalize.load` opens it. b"" for none."""
    found = normalisations(model.get_env())
    if not found:
        return b""
    try:
        return host_pickle.dumps(found[0])
    except (pickle.PicklingError, AttributeError, TypeError):  # of a class of the user's, defined in a function
        return host_pickle.dumps_code(found[0])


def normalisations(vec: VecEnv | None) -> list[VecNormalize]:
    """Those around environments, the outermost first; a wrapper of the section may be one as well."""
    return [] if vec is None else [layer for layer in layers_of(vec) if isinstance(layer, VecNormalize)]


# Attributes of these types are replaced, never changed, while a model trains; stock `load()` seeds spaces again.
_UNCHANGING = (type(None), bool, int, float, str, bytes, type, FunctionType, partial, Space)


def never_changes(value: Any) -> bool:
    """Whether a training replaces such an attribute, if need be, and never changes it in place."""
    if isinstance(value, _UNCHANGING):
        return True
    if type(value) in (dict, tuple):
        return all(map(never_changes, value.values() if isinstance(value, dict) else value))
    return callable(value) and not isinstance(value, ActionNoise)


def _as_arrays(value: Any, known: dict[Any, Any]) -> Any:
    """State dictionaries with arrays for tensors, in the same memory; tensors that share memory stay shared."""
    if isinstance(value, torch.Tensor):
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if place not in known:
            tensor = value.cpu()
            known[place] = tensor if tensor.dtype is torch.bfloat16 else tensor.numpy()
        return known[place]
    return _within(value, _as_arrays, known)


def _as_tensors(value: Any, known: dict[Any, Any]) -> Any:
    """The inverse of `_as_arrays`, without copying the numbers."""
    if isinstance(value, np.ndarray):
        if id(value) not in known:
            known[id(value)] = torch.from_numpy(value)
        return known[id(value)]
    return _within(value, _as_tensors, known)


def _within(value: Any, change: Callable[[Any, dict[Any, Any]], Any], known: dict[Any, Any]) -> Any:
    """A copy of a dictionary, list or tuple whose items are changed; anything else as it is."""
    if isinstance(value, dict):
        copied = copy.copy(value)  # with the attributes of a module's state dictionary
        copied.update({key: change(item, known) for key, item in value.items()})
        return copied
    if isinstance(value, list | tuple):
        return type(value)(change(item, known) for item in value)
    return value


def tensors_outside(model: BaseAlgorithm) -> dict[str, Any]:
    """Tensors of the model outside of its networks and optimizers, detached, by name."""
    _, names = model._get_torch_save_params()
    found = {name: recursive_getattr(model, name) for name in names}
    return {name: tensor.detach() if hasattr(tensor, "detach") else tensor for name, tensor in found.items()}


def buffers_outside(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """Buffers of the policy that no model file holds: registered with `persistent=False`."""
    kept = model.policy.state_dict().keys()
    return {name: buffer.detach() for name, buffer in model.policy.named_buffers() if name not in kept}


def read_policy(
    model: bytes,
    algorithm: str,
    policy: str,
    hyperparameters: Mapping[str, Any],
    observation_space: Space[Any],
    action_space: Space[Any],
) -> BasePolicy:
    """The policy in a model file, on the CPU, ready to predict: made as a section declares it, of the file's tensors.

    Raises:
        ConfigError: the section declares what cannot be made.
        RuntimeError: the file's policy has another shape.
        UnsafePickle: it asks for more than tensors.
    """
    algorithm_type = algorithm_class(algorithm)
    maker: Any = policy_of(algorithm_type, policy)
    if isinstance(maker, str):
        maker = algorithm_type.policy_aliases[maker]
    given = hyperparameters_of(hyperparameters, "hyperparameters")
    policy_kwargs = dict(given.get("policy_kwargs") or {})
    if given.get("use_sde"):
        policy_kwargs["use_sde"] = True
    made: BasePolicy = maker(observation_space, action_space, lambda _: 0.0, **policy_kwargs)
    parameters, _ = read_tensors(model, "cpu")
    made.load_state_dict(parameters["policy"])
    made.set_training_mode(False)
    return made


def load_parameters(model: BaseAlgorithm, data: bytes) -> None:
    """Put networks, optimizers and free tensors of a model file into an existing model of the same shape.

    Of an older version of Stable-Baselines3 it may be as well, see `older_files`.

    Raises:
        KeyError, RuntimeError, ValueError: the file's model has another shape.
        UnsafePickle: it asks for more than tensors.
    """
    parameters, variables = read_tensors(data, model.device)
    older_files.repair(model, parameters)
    model.set_parameters(parameters, exact_match=True, device=model.device)
    if is_ars(model):  # which keeps what it searches around beside the policy
        weights: Any = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
        vars(model)["weights"] = weights
    for name, value in variables.items():
        if value is not None:
            recursive_getattr(model, name).data = value.data
