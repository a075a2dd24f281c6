"""Whether a training with code of one's own ends the same, saved and loaded, is tried before a session costs quota."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kaggle_manager.sections.model import ScenarioConfig, Section, load_section
from kaggle_manager.trainer.sb3.resume_proof import _compared, own_code, prove_resume

ALGORITHM = """
from stable_baselines3 import PPO

drawn = 0


def draw():
    global drawn
    drawn += 1
    return drawn


class InTheModule(PPO):
    def train(self):
        self.policy.optimizer.param_groups[0]["lr"] = 0.01 * draw()
        self._update_learning_rate = lambda optimizers: None
        super().train()
        del self._update_learning_rate


class Sound(PPO):
    boldness = 2.0
"""
SECTION = """
name = "mine"
title = "Mine"
trains = true
default_scenario = "one"

[scenarios.one]
environment = "gymnasium:make"
environment_kwargs = { id = "CartPole-v1" }
algorithm = "ALGORITHM"
timesteps = 1000
models = "data/models"
hyperparameters = { n_steps = 8, batch_size = 8, n_epochs = 1 }

[scenarios.one.quick]
timesteps = 16
save_every = 8
models = "data/models_quick"
"""


def project(folder: Path, algorithm: str) -> Section:
    (folder / "mine_algorithms.py").write_text(ALGORITHM)
    path = folder / "sections/mine/section.toml"
    path.parent.mkdir(parents=True)
    path.write_text(SECTION.replace("ALGORITHM", algorithm))
    return load_section(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("InTheModule", r"WARNING: exact: none, because of what no save holds: .* another .*parameters\.policy"),
        ("Sound", r"saved and continued, or reloaded and continued, it ends the same in all \d+ items"),
    ],
)
def test_what_no_look_at_attributes_can_find_is_found_by_training_it(
    algorithm: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = project(tmp_path, f"mine_algorithms:{algorithm}")
    monkeypatch.syspath_prepend(tmp_path)
    found = prove_resume(tmp_path, section, "one", 60.0)
    assert re.match(said, found), found


def test_the_attributes_that_no_save_holds_are_named_whether_or_not_they_made_a_difference() -> None:
    whole = {"environment": "pickle", "items": {"a": "1", "b": "2", "all": "3"}}
    cut = {**whole, "unsaved": ["hidden of Mine"]}
    assert "because of hidden of Mine" in _compared(whole, cut)
    other = _compared(whole, {**cut, "items": {"a": "1", "b": "3", "all": "4"}})
    assert other.endswith(
        "because of hidden of Mine, which no save holds: reloaded and continued it ends with another b"
    )
    assert (
        _compared({"environment": "none", "reason": "x"}, {}) == "WARNING: exact: none, because of the environment: x"
    )


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({}, []),
        ({"algorithm": "mine:Bold"}, ["mine:Bold"]),
        ({"policy": "mine.nets:Policy"}, ["mine.nets:Policy"]),
        ({"hyperparameters": {"policy_kwargs": {"activation_fn": "torch.nn:ReLU"}}}, []),
        ({"hyperparameters": {"clip_range": {"mine:Schedule": {"first": 1.0}}}}, ["mine:Schedule"]),
        ({"environment": "mine:Env"}, []),
    ],
)
def test_a_new_kind_is_one_with_code_that_nobody_knows(changes: dict[str, object], own: list[str]) -> None:
    base = {
        "environment": "gymnasium:make",
        "algorithm": "PPO",
        "timesteps": 1,
        "models": "m",
        "quick": {"models": "q"},
    }
    assert own_code(ScenarioConfig.model_validate({**base, **changes})) == own
