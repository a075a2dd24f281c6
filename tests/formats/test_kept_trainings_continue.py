"""A training with Stable-Baselines3 that a release has left is continued by this version, from what it had saved."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from format_place import RELEASES, put_to_work

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, find_latest_checkpoint, read_metadata
from kaggle_manager.sections.project import get_section
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.local_training import train_here
from kaggle_manager.trainer.sb3.pickles import open_statistics

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("release", RELEASES)]
DONE, LATER = 64, 96


def continued(release: str, section: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingTree:
    """The tree after more steps; nothing of what was saved may have been changed on purpose or trusted anew."""
    place = put_to_work(release, folder)
    project, work = place / "project", place / "work"
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.delitem(sys.modules, "line", raising=False)  # of another release
    tree = TrainingTree(work / "sections" / section / "trained/models", section)
    before = find_latest_checkpoint(tree.root, section)
    assert before is not None
    assert before.step == DONE
    evaluated = evaluated_at(tree)
    outcome = train_here(
        project, get_section(project, section), section, base=work, clock=SessionClock(), timesteps=LATER
    )
    after = find_latest_checkpoint(tree.root, section)
    assert after is not None
    assert (outcome.step, after.step) == (LATER, LATER)
    assert after.manifest.lineage.parent_sha256 == before.manifest.sha256
    assert after.manifest.lineage.run_id == before.manifest.lineage.run_id
    store = CheckpointStore(tree)
    assert len(store.valid_checkpoints()) == 2
    assert store.final() is not None
    assert store.best() is not None
    metadata = read_metadata(tree.metadata)
    assert metadata is not None
    assert metadata.resumed_from is not None
    assert metadata.resumed_from["step"] == DONE
    assert evaluated < (now := evaluated_at(tree)), "one curve over all versions"
    assert max(now) == LATER
    return tree


def evaluated_at(tree: TrainingTree) -> set[int]:
    return {int(step) for step in np.load(tree.history / "evaluations.npz")["timesteps"]}


def test_its_replay_buffer_goes_on(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = continued(release, "line_dqn", tmp_path, monkeypatch)
    newest = find_latest_checkpoint(tree.root, "line_dqn")
    assert newest is not None
    replay = newest.manifest.replay
    assert replay is not None
    assert (replay.rows, replay.capacity) == (LATER, 48), "it has gone round, twice"


def test_its_statistics_go_on(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = continued(release, "line_ppo", tmp_path, monkeypatch)
    statistics = open_statistics(tree.path("latest", "statistics", LATER))
    assert statistics.obs_rms.count == pytest.approx(LATER + 1, abs=8), "observations of every session"
