"""The model file of a checkpoint, written the way Stable-Baselines3 writes it: stock `Algorithm.load()` opens it.

`snapshot` copies what the file will hold, so that the training can go on while another thread writes; `load_parameters`
reads tensors only and never opens the pickled Python objects in the file.
"""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr, save_to_zip_file


@dataclass(frozen=True)
class ModelSnapshot:
    """A model at one instant, sharing nothing with it.

    Attributes:
        data: its attributes that are not tensors.
        parameters: state dictionaries of networks and optimizers, by name.
        variables: tensors outside of them (the entropy coefficient of SAC), by name.
    """

    data: dict[str, Any]
    parameters: dict[str, Any]
    variables: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The zip file."""
        buffer = io.BytesIO()
        save_to_zip_file(buffer, data=self.data, params=self.parameters, pytorch_variables=self.variables)
        return buffer.getvalue()


def snapshot(model: BaseAlgorithm) -> ModelSnapshot:
    """Copy what `model.save()` would write now."""
    state_dicts, variables = model._get_torch_save_params()
    # The same choice of attributes as in `BaseAlgorithm.save`.
    left_out = {*model._excluded_save_params(), *(name.split(".")[0] for name in [*state_dicts, *variables])}
    data = {name: value for name, value in vars(model).items() if name not in left_out}
    copied, parameters, free = copy.deepcopy((data, model.get_parameters(), tensors_outside(model)))
    return ModelSnapshot(copied, parameters, free)


def tensors_outside(model: BaseAlgorithm) -> dict[str, Any]:
    """Tensors of the model outside of its networks and optimizers, detached, by name."""
    _, names = model._get_torch_save_params()
    found = {name: recursive_getattr(model, name) for name in names}
    return {name: tensor.detach() if hasattr(tensor, "detach") else tensor for name, tensor in found.items()}


def load_parameters(model: BaseAlgorithm, data: bytes) -> None:
    """Put networks, optimizers and free tensors of a model file into an existing model of the same shape.

    Raises:
        KeyError, RuntimeError, ValueError: the file's model has another shape.
    """
    _, parameters, variables = load_from_zip_file(io.BytesIO(data), device=model.device, load_data=False)
    model.set_parameters(parameters, exact_match=True, device=model.device)
    for name, value in (variables or {}).items():
        if value is not None:
            recursive_getattr(model, name).data = value.data
