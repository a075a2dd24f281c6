"""A trained model as something that controls the intersection, greedily; one model is one contender."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any, ClassVar

from kaggle_manager.sections.model import ScenarioConfig
from validation_ch7.section_7_6_rl_performance.second_study.contenders import Contender
from validation_ch7.section_7_6_rl_performance.second_study.controllers import Observation
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv


def agent(config: ScenarioConfig, model: bytes) -> Contender:
    """The model of a checkpoint of `config`. Of its file only tensors are read, so it may come from anywhere."""
    identity = {"model_sha256": hashlib.sha256(model).hexdigest(), "torch": version("torch").partition("+")[0]}
    return Contender("model", lambda: _Agent(config, model), identity)


class _Agent:
    decision_s: ClassVar[int | None] = None

    def __init__(self, config: ScenarioConfig, model: bytes) -> None:
        self._config, self._model = config, model
        self._policy: Any = None

    def start(self, env: SignalEnv, seed: int) -> None:
        if self._policy is None:
            # The package pins the arithmetic before torch is loaded.
            from kaggle_manager.trainer.sb3.model_file import read_policy

            config, spaces = self._config, (env.observation_space, env.action_space)
            self._policy = read_policy(self._model, config.algorithm, config.policy, config.hyperparameters, *spaces)

    def act(self, env: SignalEnv, observation: Observation) -> int:
        return int(self._policy.predict(observation, deterministic=True)[0])
