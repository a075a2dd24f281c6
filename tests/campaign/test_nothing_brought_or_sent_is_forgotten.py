"""What was downloaded or uploaded is not forgotten, whatever the disk, the platform and the manager meet."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest import mock

import pytest
from campaign import HOUR, Campaign, stage
from test_lies_are_not_believed import RUN
from virtual_process import Killed

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.orchestrator import passes


def killed_between_download_and_restore(campaign: Campaign) -> Path:
    """The folder of a session's outputs, downloaded by a manager that died before it restored them."""
    campaign.tick()
    campaign.clock.sleep(7 * HOUR)
    with mock.patch.object(passes, "restore_fetched", side_effect=Killed):
        campaign.tick()
    assert not CheckpointStore(campaign.tree).valid_checkpoints(), "it is not restored yet"
    (folder,) = campaign.config.downloads.glob("*/generation_1")
    return folder


def clean(folder: Path) -> None:
    shutil.rmtree(folder)


def clean_with_its_list(folder: Path) -> None:
    shutil.rmtree(folder.parents[1])


def damage(folder: Path) -> None:
    next(folder.rglob("*.zip")).write_bytes(b"other bytes")


def lose_the_result(folder: Path) -> None:
    (folder / "session_result.json").unlink()


@pytest.mark.parametrize("trouble", [clean, clean_with_its_list, damage, lose_the_result])
def test_what_was_downloaded_and_is_gone_or_damaged_is_downloaded_again(trouble, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        trouble(killed_between_download_and_restore(campaign))
        campaign.tick()
        assert [checkpoint.step for checkpoint in CheckpointStore(campaign.tree).valid_checkpoints()] != []
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2, "no step was trained twice"


def test_what_was_downloaded_and_is_whole_is_restored_though_kaggle_has_it_no_more(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        killed_between_download_and_restore(campaign)
        ending = campaign.kaggle.sessions[0].ending
        assert ending is not None
        ending.files = {}
        campaign.tick()
        assert CheckpointStore(campaign.tree).valid_checkpoints()
