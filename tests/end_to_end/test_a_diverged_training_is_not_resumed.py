"""A training that diverged has one try: nothing pushes it again, and only the command that is printed starts anew."""

from __future__ import annotations

import shlex
import time
from contextlib import closing

import pytest
from small_project import SECTION, Bench
from typer.main import get_command

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import Diverged
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.history import History
from kaggle_manager.status.overview import overview


def test_it_stops_at_once_for_run_and_tick_keeps_what_is_finite_and_the_printed_command_starts_anew(
    bench: Bench,
) -> None:
    bench.plan(g2="diverge")
    with pytest.raises(Diverged) as caught:
        bench.run(timesteps=5)
    error = caught.value
    assert "The training has diverged at step 3: train/loss is nan" in error.message
    assert "lower the learning rate" in error.next_step
    assert bench.steps() == [3, 2], "what was saved before is finite, and stays the latest"
    for _ in range(2):  # the user's own `run` answers other failures; this one only a fresh start does
        with pytest.raises(Diverged):
            bench.manager().tick(SECTION)
        with pytest.raises(Diverged):
            bench.run(timesteps=5)
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        (report,) = (seen := overview(journal, None, time.time())).runs
    assert [session.kind for session in report.sessions] == ["", "diverged"], "no session was pushed again"
    assert "[diverged]" in "\n".join(History((report,)).lines())
    assert (seen.as_json()["state"], seen.as_json()["human_action_required"]) == ("failed", True)
    assert "diverged" in report.why
    command = error.next_step[error.next_step.index("km run") :]
    assert report.next == error.next_step
    words = shlex.split(command)
    parsed = get_command(app).commands["run"].make_context("run", words[2:]).params  # type: ignore[attr-defined]
    assert (parsed["section"], parsed["timesteps"], parsed["fresh"]) == (SECTION, 5, True)
    bench.plan()
    assert bench.run(timesteps=5, fresh=True).step == 5
