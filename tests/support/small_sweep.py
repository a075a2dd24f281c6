"""A [sweep] table of two values, and where its trials are judged."""

from __future__ import annotations

from kaggle_manager.sections.sweep import Sweep

SWEEP = Sweep.model_validate(
    {
        "metric": "reward",
        "direction": "maximize",
        "trials": 6,
        "rungs": [10],
        "space": {"n_envs": {"low": 1, "high": 8}, "hyperparameters.net_arch": {"choices": [[8], [16], "x"]}},
    }
)
STOPS = SWEEP.stops(30)
