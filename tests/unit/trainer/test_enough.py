"""The first evaluation that is good enough completes a training, where it can be continued exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trainer_runs import session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree

pytestmark = pytest.mark.slow
ON_POLICY: dict[str, Any] = {
    "algorithm": "PPO",
    "hyperparameters": {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}},
    "evaluate_every": 64,
    "save_every": 32,
}
ALWAYS, NEVER = -1e9, 1e9


def test_it_is_complete_with_a_final_model_and_says_why(tmp_path: Path) -> None:
    ended = session(settings(tmp_path, total=320, enough_at=ALWAYS, **ON_POLICY))
    assert (ended.kind, ended.step) == ("completed", 128), "evaluated at 64, taken when the next one is due"
    assert "the evaluation at step 64 has a mean reward of" in ended.early
    assert ended.reason == ended.early
    final = CheckpointStore(TrainingTree(tmp_path, "cart")).final()
    assert final is not None
    assert final.step == 128


def test_a_session_that_finds_it_done_ends_at_once(tmp_path: Path) -> None:
    first = session(settings(tmp_path, total=320, enough_at=ALWAYS, **ON_POLICY))
    (tmp_path / "cart_final.manifest.json").unlink(missing_ok=True)
    again = session(settings(tmp_path, total=320, enough_at=ALWAYS, **ON_POLICY))
    assert (again.kind, again.step, again.early) == ("completed", first.step, first.early)


@pytest.mark.parametrize("more", [{"total": 384}, {"enough_at": NEVER}], ids=["another target", "another bound"])
def test_it_goes_on_with_the_bits_of_a_training_that_never_ended(tmp_path: Path, more: dict[str, Any]) -> None:
    asked = {"total": 320, "enough_at": ALWAYS}
    session(settings(tmp_path / "ended", **asked, **ON_POLICY))
    went_on = session(settings(tmp_path / "ended", **{**asked, **more}, **ON_POLICY))
    whole = session(settings(tmp_path / "whole", **{**asked, **more, "enough_at": None}, **ON_POLICY))
    assert (went_on.kind, went_on.early) == ("completed", "")
    assert went_on.step == whole.step
    assert went_on.digests.keys() == whole.digests.keys()
    differ = {name for name in whole.digests if went_on.digests[name] != whole.digests[name]}
    assert differ <= {"callbacks", "all"}, "what was enough is remembered, and is no part of the training"


def test_a_target_that_comes_first_is_reached_as_ever(tmp_path: Path) -> None:
    ended = session(settings(tmp_path, total=64, enough_at=ALWAYS, **ON_POLICY))
    assert (ended.kind, ended.step, ended.early) == ("completed", 64, "")
