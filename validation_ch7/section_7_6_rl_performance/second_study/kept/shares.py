"""Where the time of a training goes: the simulator, the network's updates, the rest; so what an accelerator could save.

    python -m validation_ch7.section_7_6_rl_performance.second_study.kept.shares

Measures the main agent of each site on this machine, with Stable-Baselines3's own loop and one thread, and keeps it.
Nothing else should run meanwhile.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig, load_section
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.training import FOLDER

DECISIONS = 7_200
SEED = 1


def measure(config: ScenarioConfig, decisions: int = DECISIONS) -> dict[str, Any]:
    """Seconds of a training of so many decisions, and what they were spent on."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    from kaggle_manager.trainer.sb3.algorithms import build_model
    from kaggle_manager.trainer.sb3.determinism import make_deterministic

    make_deterministic("cpu")
    spent = {"simulator_s": 0.0, "learner_s": 0.0}

    def made() -> SignalEnv:
        env = SignalEnv(**dict[str, Any](config.environment_kwargs))
        env.step = _timed(env.step, spent, "simulator_s")  # type: ignore[method-assign]
        env.reset = _timed(env.reset, spent, "simulator_s")  # type: ignore[method-assign]
        return env

    env = DummyVecEnv([made] * config.n_envs)
    env.seed(SEED)
    model = build_model(config.algorithm, config.policy, config.hyperparameters, env, seed=SEED, device="cpu")
    model.train = _timed(model.train, spent, "learner_s")  # type: ignore[attr-defined]
    began = time.perf_counter()
    model.learn(decisions)
    took = time.perf_counter() - began
    env.close()
    rounded = {name: round(seconds, 2) for name, seconds in {**spent, "seconds": took}.items()}
    return {"decisions": decisions, "processor": platform.processor() or platform.machine(), **rounded}


def _timed(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began

    return timed


def main() -> int:
    """Measure and keep; return the exit code."""
    section, kept = load_section(FOLDER / SECTION_FILE), Kept()
    for site, scenario in read_declaration().agents["main"].scenarios.items():
        found = measure(section.agent(scenario))
        kept.keep_shares(site, found)
        print(f"{site}: {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
