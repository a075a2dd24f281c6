"""What `init` writes for an algorithm trains in seconds: it updates, evaluates, saves twice, is cut and goes on."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.sections.hyperparameters import SB3_CONTRIB
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.local_training import train_here, tree_of

pytestmark = pytest.mark.slow

# The others are trained by other tests, from a kernel on.
ALGORITHMS = sorted({*SB3_CONTRIB, "DDPG"})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_quick_run_does_all_that_a_training_does(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"of_{algorithm.lower()}"
    section = new_section(name, tmp_path, algorithm=algorithm).section
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in [module for module in sys.modules if module.partition(".")[0] == "sections"]:
        monkeypatch.delitem(sys.modules, module)
    total = section.scenario().quick.timesteps
    counts: Counter[str] = Counter()
    for target in (total // 2, total):  # as two sessions
        counts.update(
            train_here(
                tmp_path, section, name, base=tmp_path, clock=SessionClock(), quick=True, timesteps=target
            ).counts
        )
    assert counts["updates"] >= 1
    assert counts["evaluations"] >= 1
    store = CheckpointStore(tree_of(tmp_path, section, name, tmp_path, quick=True))
    steps = [checkpoint.step for checkpoint in store.valid_checkpoints()]
    assert len(steps) == 2
    assert total // 2 <= min(steps)
    assert total <= max(steps) <= 2 * total
    assert store.best() is not None
