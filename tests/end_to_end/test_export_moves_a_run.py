"""A run that was exported goes on from there on another machine, under its own lineage."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import SECTION, Bench

from kaggle_manager.config import build_config
from kaggle_manager.errors import UntrustedTree
from kaggle_manager.trees.export import export_run, restore_export


def test_a_run_goes_on_on_another_machine_from_what_was_exported(bench: Bench, tmp_path: Path) -> None:
    url = (tmp_path / "bucket").as_uri()
    bench.run(timesteps=2)
    here = build_config(SECTION, workdir=bench.workdir, project_root=bench.project, environ={})
    first = export_run(here, url)
    assert (first.step, export_run(here, url).sent_bytes) == (2, 0)

    other = Bench(bench.project, tmp_path / "another machine", bench.server)
    there = build_config(SECTION, workdir=other.workdir, project_root=other.project, environ={})
    restore_export(there, url, lambda folder: other.manager().restore_copy(SECTION, folder), lambda _: None)
    assert "this tree is not trusted here" in other.output
    with pytest.raises(UntrustedTree):
        other.run(timesteps=4)
    other.manager().restore_copy(SECTION, here.tree, trust=True)
    assert other.steps() == bench.steps() == [2, 1]
    assert not any((there.state / "from_export").iterdir()), "the download is gone once the tree is in place"

    report = other.run(timesteps=4)
    assert "step 2 goes in as dataset" in other.output
    assert (report.step, report.run_id, [session.generation for session in report.sessions]) == (4, first.run_id, [2])
    second = export_run(there, url)
    assert (second.step, second.run_id) == (4, first.run_id)
