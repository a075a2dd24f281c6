"""A tree none of whose checkpoints can be used is put back from a copy this machine keeps, never begun again."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from small_trees import config_in, content, flip, plant

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.recover import head_of, put_back


def test_replay_rows_that_both_checkpoints_lost_come_back_from_the_downloaded_tree(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    tree = plant(config.tree, identity=current_identity(config))
    download = config.downloads / "run" / "generation_1" / "training_tree"
    shutil.copytree(config.tree, download)  # as each session's outputs arrive: a second copy of every byte
    flip(tree.replay / "segment_0.bin", 100)
    damaged = content(tree.root)
    for _ in range(2):
        with pytest.raises(CheckpointCorrupt, match=r"segment_0\.bin \(rows") as caught:
            head_of(CheckpointStore(tree, warn=pytest.fail), config)
        assert str(download) in caught.value.safe
        assert content(tree.root) == damaged, "nothing is moved before there is something to go on from"
    command = shlex.split(caught.value.next_step.splitlines()[0])
    assert command[:2] == ["kaggle-manager", "restore"]
    put_back(config, Path(command[-1]), Reporter())
    head = head_of(CheckpointStore(TrainingTree(config.tree, tree.scenario), warn=pytest.fail), config)
    assert head is not None
    assert head.step == 2
