"""A training whose bits show what NumPy computes with: an environment made of functions that AVX-512 rounds otherwise.

As a program, `python rounding.py TREE [numpy-first]`, it trains and prints what came of it as JSON, on its last line.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

if "numpy-first" in sys.argv:
    importlib.import_module("numpy")  # before anything of this program could pin it

from kaggle_manager.trainer.sb3 import determinism

# isort: split
import gymnasium
import numpy as np
from trainer_runs import session, settings


class Rounding(gymnasium.Env[Any, Any]):
    """Observations and rewards of `exp`, `log1p` and `power`; episodes of ten steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (16,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps, self._state = 0, self.np_random.uniform(0.1, 1.0, 16)
        return self._state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        grown = np.exp(-self._state) + np.log1p(self._state) + np.power(self._state, 1.7 + float(action))
        self._state = grown / (1.0 + grown.max())
        return self._state, float(np.power(self._state, 0.3).sum()), False, self._steps == 10, {}


def main() -> None:
    outcome = session(settings(Path(sys.argv[1]), environment=Rounding, total=60, evaluate_every=60))
    print(json.dumps({"digests": outcome.digests, "fingerprint": determinism.fingerprint()}))


if __name__ == "__main__":
    main()
