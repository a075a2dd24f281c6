"""A model as it was at one step, by value: to be evaluated, and saved if it is the best, while training continues."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from kaggle_manager.checkpoints.contents import Content
from kaggle_manager.trainer.sb3 import host_pickle
from kaggle_manager.trainer.sb3.model_file import ModelSnapshot

# What a model is made without that shall only act: memory for what it learns from, and what that memory is tied to.
_ACTS_ALONE: dict[str, Any] = {
    "buffer_size": 1,
    "n_envs": 1,
    "optimize_memory_usage": False,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
}


@dataclass(frozen=True)
class ModelCopy:
    """One model at one step.

    Attributes:
        step: timesteps trained.
        attributes: of the model, for `pickle.loads`.
        parameters, variables, statistics: as in `ModelSnapshot`.
        normalised: the running statistics it acts by, see `evaluation.statistics_of`.
    """

    step: int
    attributes: bytes
    parameters: dict[str, Any]
    variables: dict[str, Any]
    statistics: bytes
    normalised: bytes

    @classmethod
    def of(cls, model: ModelSnapshot, step: int, normalised: bytes) -> ModelCopy:
        """Copy what the snapshot refers to."""
        attributes = host_pickle.dumps_attributes(model.data)
        parameters, variables = copy.deepcopy((model.parameters, model.variables))
        return cls(step, attributes, parameters, variables, model.statistics, normalised)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ModelCopy:
        apart = state["model_attributes"]
        parts = (apart["pickled"], state["parameters"], state["variables"], apart["statistics"], apart["normalised"])
        return cls(state["step"], *parts)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values. No digest is of the pickles, which have wall-clock times in them."""
        return {
            "step": self.step,
            "parameters": self.parameters,
            "variables": self.variables,
            "model_attributes": {
                "pickled": self.attributes,
                "statistics": self.statistics,
                "normalised": self.normalised,
            },
        }

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return sum(_sizes([self.parameters, self.variables]))

    def files(self) -> dict[str, Content]:
        """As of a snapshot. Opens the attributes, which are this process's or of a checkpoint that is vouched for."""
        return self._snapshot().files()

    def _snapshot(self) -> ModelSnapshot:
        return ModelSnapshot(pickle.loads(self.attributes), self.parameters, self.variables, self.statistics)

    def load(self, algorithm: type[BaseAlgorithm], env: VecEnv | None = None) -> BaseAlgorithm:
        """The model that stock Stable-Baselines3 opens, on the CPU, to act alone.

        Args:
            env: for an algorithm that cannot be made without.
        """
        return algorithm.load(
            io.BytesIO(self._snapshot().to_bytes()), env, device="cpu", custom_objects=dict(_ACTS_ALONE)
        )


def _sizes(value: Any) -> Iterator[int]:
    if isinstance(value, np.ndarray):
        yield value.nbytes
    elif isinstance(value, torch.Tensor):
        yield value.numel() * value.element_size()
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _sizes(part)
