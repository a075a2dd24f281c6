"""A download that vanishes while it is listed is one to make again; a disk that refuses is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kaggle_manager.errors import OutputDamaged, StorageError
from kaggle_manager.sessions.download import list_of
from kaggle_manager.sessions.received import keep_list


@pytest.mark.parametrize("gone", ["generation_1", "."])
def test_a_download_that_something_else_removed_is_damaged_outputs_which_are_downloaded_again(
    tmp_path: Path, gone: str
) -> None:
    folder = tmp_path / "run/generation_1"
    folder.mkdir(parents=True)
    (folder / "session_result.json").write_text("{}")
    shutil.rmtree(tmp_path / "run" / gone)
    with pytest.raises(OutputDamaged, match="something else removed it"):
        keep_list(folder)
    assert not list_of(folder).exists()


def test_a_disk_that_refuses_the_list_is_still_said_to(tmp_path: Path) -> None:
    folder = tmp_path / ("g" * 250)  # the name of its list is longer than a disk takes
    folder.mkdir()
    with pytest.raises(StorageError):
        keep_list(folder)
