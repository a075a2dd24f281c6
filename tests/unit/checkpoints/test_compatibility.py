"""Which differences refuse a checkpoint, which are told, and that none is passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from kaggle_manager.checkpoints import Level, compare

IDENTITY: dict[str, Any] = {
    "scenario": "traffic",
    "algorithm": "DQN",
    "policy_architecture": [64, 64],
    "observation_space_shape": [26],
    "action_space_shape": [2],
    "hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 0},
    "environment_fingerprint": "e" * 64,
    "reward_fingerprint": "r" * 64,
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    "device": "cpu",
    "seed": 42,
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**IDENTITY, **changes}


def test_the_same_experiment_is_ok_and_a_tuple_is_a_list() -> None:
    verdict = compare(IDENTITY, changed(policy_architecture=(64, 64)))
    assert (verdict.level, verdict.differences) == (Level.OK, ())


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "PPO"},
        {"policy_architecture": [128, 128]},
        {"observation_space_shape": [43]},
        {"action_space_shape": [3]},
        {"environment_fingerprint": "f" * 64},
        {"reward_fingerprint": "f" * 64},
        {"scenario": "other"},
        {"hyperparameters": {"learning_rate": 1e-4, "gamma": 0.99, "verbose": 0}},
        {"hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 0, "tau": 1.0}},
        {"hyperparameters": {"gamma": 0.99, "verbose": 0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_would_make_the_weights_wrong_is_refused(change: dict[str, Any]) -> None:
    verdict = compare(IDENTITY, changed(**change))
    assert verdict.refused
    assert len(verdict.differences) == 1
    assert verdict.differences[0].what_to_do


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"torch": "2.12.0", "numpy": "2.4.6"}},
        {"device": "cuda"},
        {"seed": 7},
        {"target": 200_000},
        {"hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 1}},
        {"observation_space_shape": None},
        {"something_new": 1},
    ],
    ids=str,
)
def test_what_the_training_survives_is_told(change: dict[str, Any]) -> None:
    verdict = compare(IDENTITY, changed(**change))
    assert verdict.level is Level.WARN
    assert len(verdict.differences) == 1


@pytest.mark.parametrize("name", ["algorithm", "hyperparameters", "environment_fingerprint", "reward_fingerprint"])
def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(name: str) -> None:
    silent = {key: value for key, value in IDENTITY.items() if key != name}
    assert compare(silent, IDENTITY).refused
    assert compare(IDENTITY, silent).level is Level.WARN
    assert compare(silent, silent).refused


def test_every_difference_is_listed_the_grave_ones_first() -> None:
    current = changed(device="cuda", algorithm="PPO", policy_architecture=[128, 128])
    lines = [str(difference) for difference in compare(IDENTITY, current).differences]
    assert len(lines) == 3
    assert "Architecture: checkpoint=[64, 64], current=[128, 128]" in lines[1]
    assert lines[2].startswith("WARN Device")


def test_true_is_not_one() -> None:
    assert compare(changed(target=1), changed(target=True)).level is Level.WARN
