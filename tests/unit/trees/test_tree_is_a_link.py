"""A training tree that was moved to another disk is a link: it is followed everywhere, and stays one."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_trees import SCENARIO, config_in, content, plant

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, archive_tree, restore_tree
from kaggle_manager.checkpoints import atomic_swap as swap
from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import StorageError
from kaggle_manager.orchestrator.locking import exclusive_lock
from kaggle_manager.trees.backups import back_up, find_copies
from kaggle_manager.trees.recover import set_aside


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A tree on another disk, and a link to it where it belongs."""
    config = config_in(tmp_path / "work")
    elsewhere = tmp_path / "big_disk" / "models"
    plant(elsewhere)
    config.tree.parent.mkdir(parents=True)
    config.tree.symlink_to(elsewhere)
    return config


def there(config: RunConfig) -> list[int]:
    tree = TrainingTree(config.tree, SCENARIO)
    return [checkpoint.step for checkpoint in CheckpointStore(tree, warn=pytest.fail).valid_checkpoints()]


def test_a_restore_goes_where_the_link_leads(config: RunConfig, tmp_path: Path) -> None:
    elsewhere = config.tree.resolve()
    source = plant(tmp_path / "download", (2, 3)).root
    report = restore_tree(source, TrainingTree(config.tree, SCENARIO), keep_replaced=tmp_path / "replaced")
    assert config.tree.is_symlink()
    assert config.tree.resolve() == elsewhere
    assert there(config) == [3, 2]
    assert report.replaced == tmp_path / "replaced"
    assert not report.replaced.is_symlink()


def test_a_swap_that_was_cut_is_finished_where_the_link_leads(config: RunConfig) -> None:
    plant(swap.ready(config.tree), (5, 6))
    swap.set_aside(config.tree.resolve(), config.tree.resolve().with_name("old"), Disk())
    assert CheckpointStore(TrainingTree(config.tree, SCENARIO)).recover()
    assert config.tree.is_symlink()
    assert there(config) == [6, 5]


def test_a_fresh_start_archives_the_tree_and_leaves_the_link(config: RunConfig, tmp_path: Path) -> None:
    before = content(config.tree)
    kept = set_aside(config, "--fresh was given")
    assert kept is not None
    assert content(kept).items() >= before.items()
    assert config.tree.is_symlink(), "it leads nowhere now, and the next tree goes there"
    source = plant(tmp_path / "download", (7, 8)).root
    restore_tree(source, TrainingTree(config.tree, SCENARIO), keep_replaced=tmp_path / "replaced")
    assert there(config) == [8, 7]
    assert config.tree.is_symlink()


def test_copies_are_made_and_found_through_the_link(config: RunConfig) -> None:
    copy = back_up(config, "a test")
    assert copy.folder in [found.folder for found in find_copies(config)]
    assert not copy.folder.is_symlink()


def test_a_disk_that_is_not_mounted_gets_no_folder_in_its_place_and_the_advice_works(config: RunConfig) -> None:
    disk = config.tree.resolve().parent
    away = disk.rename(disk.with_name("unmounted"))
    with pytest.raises(StorageError, match="is a link to") as refused, exclusive_lock(config):
        pass
    assert str(disk) in refused.value.next_step
    assert not disk.exists()
    away.rename(disk)
    with exclusive_lock(config):
        assert there(config) == [2, 1]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_file_in_the_place_of_the_tree_is_named_and_moving_it_away_helps(
    through_a_link: bool, tmp_path: Path
) -> None:
    config = config_in(tmp_path / "work")
    config.tree.parent.mkdir(parents=True)
    file = tmp_path / "file" if through_a_link else config.tree
    file.write_text("no tree")
    if through_a_link:
        config.tree.symlink_to(file)
    source = plant(tmp_path / "download").root
    for command in (
        lambda: restore_tree(source, TrainingTree(config.tree, SCENARIO), keep_replaced=tmp_path / "replaced"),
        lambda: set_aside(config, "a fresh start"),
        lambda: exclusive_lock(config).__enter__(),
    ):
        with pytest.raises(StorageError, match=f"{file} is not a folder") as refused:
            command()
        assert "move that file" in refused.value.next_step
    assert file.read_text() == "no tree"
    file.rename(file.with_name("moved"))
    restore_tree(source, TrainingTree(config.tree, SCENARIO), keep_replaced=tmp_path / "replaced")
    assert there(config) == [2, 1]


def test_a_link_to_nothing_is_no_free_name(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "kept").symlink_to(tmp_path / "nowhere")
    kept = archive_tree(TrainingTree(config.tree, SCENARIO), tmp_path / "kept", "a test")
    assert kept == tmp_path / "kept_2"
