"""An environment that the user has changed and accepts is the one that is trained in from there on, and it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from trainer_runs import SCENARIO, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.metadata import read_metadata
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.protocol.sentences import exactness
from kaggle_manager.trainer.runtime.session_files import failure
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

pytestmark = pytest.mark.slow


class Paid(gym.Env[Any, Any]):
    """Pays the same in each of ten steps; `holds` is what no pickle takes."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, pay: float, holds: bool = False) -> None:
        self.pay, self.steps, self.holds = pay, 0, (lambda: None) if holds else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.zeros(1, np.float32), self.pay, self.steps == 10, False, {}


def paying(tree: Path, pay: float, **changes: Any) -> TrainingConfig:
    texts = {"environment.py": (f"{pay}", f"PAY = {pay}\n")}
    changes = {"environment": EntryPoint(f"{__name__}:Paid", {"pay": pay}), **changes}
    fingerprints = {"environment_fingerprint": f"e{pay}", "reward_fingerprint": f"r{pay}"}
    return settings(tree, identity=fingerprints, sources=dict.fromkeys(fingerprints, texts), **changes)


def returns(tree: Path) -> list[float]:
    rows = (tree / "history/monitor.csv").read_text().splitlines()[2:]
    return [float(row.partition(",")[0]) for row in rows]


def test_the_new_reward_is_paid_from_there_on_and_each_change_is_remembered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "tree"
    session(paying(tree, 3.0, evaluate_every=50), max_steps=105)
    store = CheckpointStore(TrainingTree(tree, SCENARIO))
    best = store.best()
    assert best is not None
    assert best.manifest.score == 30.0
    with pytest.raises(CheckpointIncompatible) as refused:
        session(paying(tree, 2.0))
    assert "-PAY = 3.0\n    +PAY = 2.0" in refused.value.message
    assert failure(refused.value)["error"]["can_be_accepted"], "what the manager decides by"
    assert "--accept-changes" in refused.value.next_step

    unpicklable = EntryPoint(f"{__name__}:Paid", {"pay": 2.0, "holds": True})
    assert "-PAY" not in capsys.readouterr().out, "the error says it"
    session(paying(tree, 2.0, accept_changes=True, environment=unpicklable), max_steps=55)
    said = capsys.readouterr().out
    assert said.count("+PAY = 2.0") == 1
    assert "WARNING: WARN" not in said
    session(paying(tree, 1.0, accept_changes=True, bundle_sha256="b" * 64))
    said = capsys.readouterr().out
    assert "environment.py changed - accepted" in said
    assert "+PAY" not in said, "in a kernel, its manager has shown it"
    paid = returns(tree)
    assert set(paid) == {30.0, 20.0, 10.0}, "no episode is of two environments"
    assert paid == sorted(paid, reverse=True)
    head, best = store.find_latest_checkpoint(), store.best()
    assert head is not None
    assert best is not None
    assert best.manifest.score == 10.0, "a score of another reward is none to compare with"
    first, second = (entry for entry in head.manifest.exact["broken"] if entry.get("changed"))
    assert first["changed"] == second["changed"] == "environment.py"
    said = exactness(head.manifest.exact)
    assert said.startswith(f"exact up to step {first['step']}, then environment.py was changed on purpose")
    assert f"environment.py changed on purpose at step {second['step']}" in said
    assert head.sources() == {name: {"environment.py": ("1.0", "PAY = 1.0\n")} for name in head.sources()}
    assert origin_of(tree).record is not None


def test_the_best_is_chosen_anew_also_where_the_first_session_after_the_change_evaluates_nothing(
    tmp_path: Path,
) -> None:
    tree = TrainingTree(tmp_path, SCENARIO)
    session(paying(tmp_path, 3.0, evaluate_every=50), max_steps=110)
    store = CheckpointStore(tree)
    best = store.best()
    assert best is not None
    old = best.step
    unevaluated = session(paying(tmp_path, 2.0, accept_changes=True), max_steps=10)
    assert unevaluated.counts["evaluations"] == 0
    assert store.best() is None, "there is none of this reward yet"
    best = store.best_on_disk()
    assert best is not None
    assert best.step == old, "nothing has taken its place yet"
    metadata = read_metadata(tree.metadata)
    session(paying(tmp_path, 2.0))
    best = store.best()
    assert best is not None
    assert best.manifest.score == 20.0
    assert best.step > old
    assert metadata is not None
    assert metadata.best_score is None, "a score of another reward says nothing of this one"


def test_what_was_not_changed_breaks_nothing(tmp_path: Path) -> None:
    session(paying(tmp_path / "tree", 1.0), max_steps=55)
    session(paying(tmp_path / "tree", 1.0, accept_changes=True), max_steps=60)
    head = origin_of(tmp_path / "tree").checkpoint
    assert head is not None
    assert head.manifest.exact["broken"] == []


class Lucky(Paid):
    """Pays in every second episode: by its seed."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.pay = float(seed % 2 == 0)
        return np.full(1, self.pay, np.float32), super().reset(seed=seed)[1]


def test_a_score_that_was_measured_otherwise_is_none_to_beat_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def chosen(episodes: int) -> TrainingConfig:
        return settings(tmp_path / "tree", environment=Lucky, evaluation_episodes=episodes, evaluate_every=50)

    store = CheckpointStore(TrainingTree(tmp_path / "tree", SCENARIO))
    session(chosen(1), max_steps=105)
    first = store.best()
    assert first is not None
    assert first.manifest.score == 10.0, "of one episode, which was the lucky one"
    capsys.readouterr()
    session(chosen(4))
    said = capsys.readouterr().out
    assert (
        "Evaluation.episodes: checkpoint=1, current=4 - the training continues; scores measured otherwise are" in said
    )
    best = store.best()
    assert best is not None
    assert (best.manifest.score, best.manifest.identity["evaluation"]["episodes"]) == (5.0, 4)
    assert best.step > first.step
    meta = read_metadata(TrainingTree(tmp_path / "tree", SCENARIO).metadata)
    assert meta is not None
    assert (meta.best_score, meta.best_step) == (5.0, best.step)
    with np.load(tmp_path / "tree/history/evaluations.npz") as history:
        means = np.nanmean(history["results"], axis=1)
    assert (means[0], means[-1]) == (10.0, 5.0)
    final = store.final()
    assert final is not None
    assert final.manifest.exact["broken"] == [], "how a policy is judged changes no bit of the training"
