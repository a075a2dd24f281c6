"""What the user allows a week is used by sessions, and not by each of the runs that share one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_trees import config_in

from kaggle_manager.runs.budget import QuotaView, week_ends
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.week import own_quota
from kaggle_manager.system.formatting import iso

NOW, HOUR = week_ends(None, 1_800_000_000.0) - 24 * 3600.0, 3600.0
POOL = "local/me/CPU"


def test_a_session_that_runs_share_counts_once_and_not_for_the_run_that_joins_it(tmp_path: Path) -> None:
    config = replace(config_in(tmp_path), quota_per_week_s=10 * HOUR)

    def session(run_id: str, hours: float, **facts: Any) -> SessionRow:
        facts = {"pool": POOL, "planned": {"timeout_s": hours * HOUR, "deadline_s": 0.0, "steps": None}, **facts}
        return SessionRow(run_id, 1, Stage.PUSHED, None, 0, "b" * 64, "", iso(NOW), facts=facts)

    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        for run_id in ("lead", "lane", "alone", "elsewhere"):
            journal.add_run(RunRow(run_id, "s", "x", 4, False, run_id, "local", "me", run_id, iso(NOW)))
        lead = session("lead", 2)
        journal.add_session(lead)
        journal.add_session(session("lane", 3, led_by="lead/1"))
        journal.add_session(session("alone", 4))
        journal.add_session(session("elsewhere", 9, pool="local/me/GPU"))
        left = own_quota(config, journal, POOL, None, NOW)
        assert left == QuotaView(3 * HOUR, 10 * HOUR, NOW + 24 * HOUR, is_own=True)
        joined = own_quota(config, journal, POOL, None, NOW, beside=lead)
        assert joined is not None
        assert joined.left_s == 6 * HOUR
        assert own_quota(replace(config, quota_per_week_s=None), journal, POOL, None, NOW) is None
