"""The spaces of the model that a scenario trains, as its checkpoints state them.

    python -m kaggle_manager.trainer.sb3.spaces SECTION SCENARIO [--quick]

Prints one line of JSON: `description.spaces_of`, and the versions by which spaces are written. Trains nothing.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import algorithms, code_first
from kaggle_manager.trainer.sb3.description import spaces_of
from kaggle_manager.trainer.sb3.environments import environments_of
from kaggle_manager.trainer.sb3.local_training import open_project


def main(arguments: Sequence[str]) -> int:
    """Print them."""
    name, scenario_name, *options = arguments
    _, section = open_project(name)
    scenario = section.agent(scenario_name)
    scenario = scenario.for_quick() if options else scenario
    with _model(scenario) as model:
        versions = {"gymnasium": gym.__version__, "numpy": np.__version__}
        print("\n" + json.dumps({**spaces_of(model), "versions": versions}), flush=True)
    return 0


@contextlib.contextmanager
def _model(scenario: ScenarioConfig) -> Iterator[BaseAlgorithm]:
    if scenario.build is not None:
        with code_first.tried(scenario, 0) as built:
            yield built.model
        return
    with contextlib.closing(environments_of(scenario).in_this_process().vectorised("none", 0)) as vec:
        given, _ = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
        yield algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=0, device="cpu")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
