"""The folder of a project's state is nothing for git: gigabytes of copies, and the key of the local Kaggle."""

from __future__ import annotations

from pathlib import Path

from small_trees import config_in

from kaggle_manager.orchestrator.locking import exclusive_lock


def test_git_takes_up_nothing_of_a_projects_state_and_a_workdir_is_the_users(tmp_path: Path) -> None:
    for name, ignored in ((".kaggle_manager", True), ("work", False)):
        with exclusive_lock(config_in(tmp_path / name)):
            assert (tmp_path / name / ".gitignore").exists() == ignored
