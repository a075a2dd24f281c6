"""A tree none of whose checkpoints can be used is put back from a copy this machine keeps, never begun again."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_trees import config_in, content, flip, plant, reseal

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree, pack_tree
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, CheckpointNotFound, UnsafePath
from kaggle_manager.trees.backups import back_up, find_copies
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.export import export_run
from kaggle_manager.trees.inspect import find_checkpoint, look_at, verify_tree
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
    assert command[:2] == ["km", "restore"]
    put_back(config, Path(command[-1]), Reporter())
    head = head_of(CheckpointStore(TrainingTree(config.tree, tree.scenario), warn=pytest.fail), config)
    assert head is not None
    assert head.step == 2


def test_a_tree_of_an_earlier_version_is_refused_as_such_and_left_as_it_is(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    tree = plant(config.tree, identity=current_identity(config))
    for path in tree.root.rglob("*.manifest.json"):
        path.write_bytes(reseal(json.loads(path.read_bytes()) | {"schema": 1}))
    download = config.downloads / "run" / "generation_1" / "training_tree"
    shutil.copytree(config.tree, download)
    before = content(tmp_path)
    store = CheckpointStore(tree, warn=pytest.fail)
    meetings: list[Callable[[], object]] = [
        store.recover,
        store.find_latest_checkpoint,
        store.best,
        lambda: head_of(store, config),
        lambda: verify_tree(tree),
        lambda: back_up(config, "before the update"),
        lambda: export_run(config, str(tmp_path / "elsewhere")),
        lambda: pack_tree(tree, tmp_path / "pack"),
    ]
    for meet in meetings:
        with pytest.raises(CheckpointIncompatible, match="an earlier development version") as refused:
            meet()
        assert "--fresh" in refused.value.next_step
    assert {name: data for name, data in content(tmp_path).items() if name in before} == before
    assert {view.hash_state for view in look_at(tree)} == {"incompatible"}
    assert [(copy.kind, copy.step) for copy in find_copies(config)] == [("download", None)]
    with pytest.raises(CheckpointNotFound, match="an earlier development version"):
        find_checkpoint(tree, "latest")


@pytest.mark.parametrize("left", ["files of a script", "manifests", "quarantine"])
def test_whatever_is_left_of_its_checkpoints_a_trained_tree_never_starts_from_zero(tmp_path: Path, left: str) -> None:
    config = config_in(tmp_path)
    store = CheckpointStore(tree := TrainingTree(config.tree, config.scenario_name), warn=pytest.fail)
    store.save_final(
        step=2, files={"weights.pt": b"w"}, target=9, lineage=Lineage("run", 1, None, 0), bundle_sha256="b" * 64
    )
    weights, manifest = tree.path("final", "weights.pt"), tree.root / tree.manifest_name("final")
    match left:
        case "files of a script":
            manifest.unlink()
        case "manifests":
            shutil.rmtree(weights.parent)
        case "quarantine":
            tree.quarantine.mkdir()
            weights.parent.rename(tree.quarantine / weights.parent.name)
            manifest.unlink()
    with pytest.raises(CheckpointCorrupt, match="was trained"):
        head_of(CheckpointStore(tree, warn=lambda text: None), config)


def test_a_first_save_that_was_never_committed_is_no_training(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    tree = TrainingTree(config.tree, config.scenario_name)
    unfinished = tree.path("latest", "weights.pt", 1)
    unfinished.parent.mkdir(parents=True)
    unfinished.with_name("weights.pt.next").write_bytes(b"w")
    assert head_of(CheckpointStore(tree, warn=lambda text: None), config) is None


def test_the_tree_stays_in_its_place_until_the_whole_copy_is_there(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    plant(config.tree, (1, 2, 3), identity=current_identity(config))
    copy = plant(tmp_path / "copy", identity=current_identity(config))
    curve = copy.history / "evaluations.npz"
    data = curve.read_bytes()
    curve.unlink()
    curve.symlink_to(tmp_path / "elsewhere")
    before = content(config.tree)
    with pytest.raises(UnsafePath):
        put_back(config, copy.root, Reporter())
    assert content(config.tree) == before
    curve.unlink()
    curve.write_bytes(data)
    report = put_back(config, copy.root, Reporter())
    assert report.step == 2, "an older copy is what was asked for"
    assert report.replaced is not None
    assert report.replaced.parent == config.archive
    assert {name: data for name, data in content(report.replaced).items() if name != "reason.txt"} == before
    assert (report.replaced / "reason.txt").read_text().startswith("replaced by the copy of step 2")
