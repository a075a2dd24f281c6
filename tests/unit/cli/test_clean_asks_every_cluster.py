"""`clean` asks wherever a section has sessions, also where sections have clusters of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import SECTION, SECTION_TOML

from kaggle_manager.cli.clean import _places


def test_each_cluster_of_a_project_is_asked_once_and_a_section_that_is_gone_takes_none_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, root in (("north", "/north"), ("north_too", "/north"), ("south", "/south")):
        folder = tmp_path / "sections" / name
        folder.mkdir(parents=True)
        section = SECTION_TOML.replace(SECTION, name)
        (folder / "section.toml").write_text(f'{section}\n[platform.slurm]\nroot = "{root}"\n')
    monkeypatch.chdir(tmp_path)
    asked = [("slurm", name) for name in ("north", "north_too", "south", "was_deleted")] + [("kaggle", "north")]
    assert list(_places(asked)) == [("kaggle", {}), ("slurm", {"root": "/north"}), ("slurm", {"root": "/south"})]
    assert list(_places([("slurm", "was_deleted")])) == [("slurm", {})]
