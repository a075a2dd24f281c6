"""A run on a Kaggle whose newest image moves on and whose older one goes: real pushes, real sessions, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import hostile_stage
import pytest
from small_project import Bench, installed, make_project

from kaggle_manager.local_kaggle.images import Image
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.sessions import bundle, watch

pytestmark = pytest.mark.slow


def test_a_run_stays_in_its_image_and_leaves_it_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(bundle, "INSTALLED", installed(tmp_path / "project"))
    with hostile_stage.stage(tmp_path / "kaggle") as at:
        account = at.state.account
        server = ServerInfo(at.state.address, account.username, account.token, at.root, 0)
        bench = Bench(make_project(tmp_path / "project"), tmp_path / "work", server)
        moves = {"kind": "image_moves", "times": 1}
        at.play(moves | {"first": 2}, moves | {"first": 3, "gone": True})
        report = bench.run(timesteps=8)
        with at.state.transaction() as database:
            pushed = [json.loads(row["settings"]) for row in database.execute("SELECT * FROM sessions ORDER BY id")][2:]
    first, third = Image(1).digest, Image(3).digest
    assert [session.image for session in report.sessions] == [first, first, third, third]
    assert [each["dockerImage"] for each in pushed] == [first, first, third, third]
    assert [each["dockerImagePinningType"] for each in pushed] == ["", "original", "", "original"]
    assert bench.output.count("can no longer be had") == 1
    assert (report.state, report.step) == ("finished", 8)
