"""A saved environment goes on as the original would, its random generators and their children included."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from trainer_runs import Stuck, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.trainer.sb3 import env_state


class Drawing(gym.Env[Any, Any]):
    """Draws from generators of several kinds, one of them shared by two names, and from children of one."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.mersenne = np.random.Generator(np.random.MT19937(self.np_random.integers(2**31)))
        self.alias = self.mersenne
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        [child] = self.np_random.spawn(1)
        drawn = [self.np_random.random(), self.mersenne.random(), self.alias.random(), child.random()]
        return np.array(drawn, np.float32), 0.0, False, False, {}


def make() -> Drawing:
    return Drawing()


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_generators_and_their_children_draw_on(steps: int) -> None:
    original = env_state.make_vec_env(make, "pickle", 1)
    copy = env_state.make_vec_env(make, "pickle", 2)
    original.reset()
    copy.reset()
    for _ in range(steps):
        original.step(np.array([0]))
    env_state.restore(copy, env_state.collect(original, "pickle"))
    for _ in range(5):
        assert original.step(np.array([1]))[0].tobytes() == copy.step(np.array([1]))[0].tobytes()


class Refuses(Drawing):
    def close(self) -> None:
        raise RuntimeError("already closed")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms here")
@pytest.mark.parametrize("catching", [False, True])
def test_an_environment_that_does_not_close_is_left_after_a_moment_and_alarms_are_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], catching: bool
) -> None:
    monkeypatch.setattr(env_state, "CLOSING_S", 0.05)
    before, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    env_state.close_one(Stuck(catching=catching))
    assert catching or "the close() of an environment has not ended" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx(timer, abs=5)
    env_state.close_one(Refuses())
    assert "failed: RuntimeError: already closed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms here")
@pytest.mark.parametrize("processes", [False, True])
def test_environments_that_do_not_close_cost_neither_the_final_model_nor_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    monkeypatch.setattr(env_state, "CLOSING_S", 0.05)
    changes = {"algorithm": "A2C", "hyperparameters": {}, "environment": Stuck, "processes": processes, "total": 20}
    outcome = session(settings(tmp_path / "tree", **changes))
    assert (outcome.kind, outcome.step) == ("completed", 20)
    assert CheckpointStore(TrainingTree(tmp_path / "tree", "cart")).final() is not None
