"""A best model from before an accepted change of the reward is none: whoever asks gets the same answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_trees import IDENTITY, SCENARIO, SECTION, config_in, plant
from typer.testing import CliRunner

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.cli.commands import app
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.tree_lines import describe_tree
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.trees.compare import side_of
from kaggle_manager.trees.inspect import find_checkpoint

NOW = 1_800_000_000.0
CHANGED = {**IDENTITY, "reward_fingerprint": "s" * 64}
FACTS: dict[str, Any] = {"target": 9, "lineage": Lineage("run", 2, None, 2), "bundle_sha256": "b" * 64}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunContext]:
    """A run whose newest checkpoint was trained with another reward than its best and its final model."""
    config = config_in(tmp_path)
    store = CheckpointStore(plant(config.tree))
    store.save_latest(step=3, files={"model": b"m", "state": b"s"}, identity=CHANGED, **FACTS)
    row = RunRow("run", SECTION, SCENARIO, 9, False, str(config.tree), "local", "o", "s", "2026-11-22T00:00:00+00:00")
    quiet: Any = SimpleNamespace(warn=lambda text: None, line=lambda text: None, quota=lambda text: None)
    platform = SimpleNamespace(limits=lambda: Limits(43_200.0, {}, 1))
    connection: Any = SimpleNamespace(
        quota_for=lambda config: None, session_limit_s=lambda config: 43_200.0, client=platform
    )
    with closing(Journal(config.journal)) as journal:
        journal.add_run(row)
        yield RunContext(config, connection, RunState(journal, row), quiet, lambda: NOW, 0)


def answers(run: RunContext) -> dict[str, bool]:
    """Whether there is a best model, of everyone who says so."""
    tree = run.tree
    listed = CliRunner().invoke(app, ["checkpoints", "ls", "--workdir", str(run.config.state)])
    return {
        "store": CheckpointStore(tree).best() is not None,
        "status": describe_run(run.state, NOW).best_score is not None,
        "comparison": side_of(tree, "a").best is not None,
        "what is to be evaluated": run.observe().judged,
        "end of the run": any(line.startswith("best") for line in describe_tree(run)),
        "list": "counts no more" not in listed.output,
    }


def test_a_best_of_the_old_reward_is_none_for_every_reader_until_it_is_replaced(run: RunContext) -> None:
    assert set(answers(run).values()) == {False}, answers(run)
    assert find_checkpoint(run.tree, "best").manifest is not None, "what lies there can be looked at"
    store = CheckpointStore(run.tree)
    assert store.best_on_disk() is not None
    assert store.save_best(score=-90.0, step=3, files={"model": b"b"}, identity=CHANGED, **FACTS), (
        "-5 was of the old reward"
    )
    assert set(answers(run).values()) == {True}, answers(run)


def test_seen_from_a_checkpoint_of_the_old_reward_it_counts(run: RunContext) -> None:
    tree: TrainingTree = run.tree
    old = find_checkpoint(tree, "2").manifest
    assert old is not None
    assert side_of(tree, "a", old).best is not None
    assert CheckpointStore(tree).best(old.identity) is not None
