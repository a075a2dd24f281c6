"""A session vouches for the checkpoints that it saved, not for whatever lies among what it left."""

from __future__ import annotations

from pathlib import Path

from small_trees import config_in, plant

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.orchestrator.restore import vouch_for
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.download import DownloadedSession


def test_only_for_checkpoints_of_this_run_and_session(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    tree = plant(tmp_path / "left", (4,), run_id="run", generation=2)
    others = plant(tmp_path / "a", (3,), run_id="another", generation=2), plant(tmp_path / "b", (2,), generation=1)
    (own,), *foreign = (CheckpointStore(each).valid_checkpoints() for each in (tree, *others))
    for other in others:
        for path in other.checkpoints.glob("*_steps.*"):
            path.rename(tree.checkpoints / path.name)
    session = SessionRow("run", 2, Stage.ENDED, None, 0, "b" * 64, "", "2026-01-01T00:00:00+00:00")
    vouch_for(config, session, DownloadedSession(tmp_path, None, tree.root, ""))
    vouched = Vouched(config.state)
    assert vouched.who(own.manifest) == "brought by session 2 of run run"
    assert [vouched.who(found[0].manifest) for found in foreign] == ["", ""]
