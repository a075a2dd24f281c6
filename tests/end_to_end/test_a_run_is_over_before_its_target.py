"""A run for which section.toml says when it is enough is over then, and goes on when it is asked for more."""

from __future__ import annotations

import pytest
from small_project import SECTION, Bench

pytestmark = pytest.mark.slow


def test_what_a_session_says_is_enough_finishes_the_run_until_more_is_asked_for(bench: Bench) -> None:
    bench.plan(g2="enough")
    report = bench.run(timesteps=10)
    assert (report.state, report.step, len(report.sessions)) == ("finished", 4, 2)
    assert "4 of 10 timesteps are done, and enough: its model is good" in report.why
    assert "its model is good" in bench.output
    assert "relaunch" not in bench.output.partition("session/2")[2]
    again = bench.run(timesteps=10)
    assert (again.state, again.step, len(again.sessions)) == ("finished", 4, 2), "the same command asks for nothing"
    assert bench.manager().tick(SECTION).state == "finished"
    more = bench.run(timesteps=8)
    assert (more.state, more.step, len(more.sessions)) == ("finished", 8, 4), "on from step 4"


def test_another_stop_when_goes_on_to_the_same_target(bench: Bench) -> None:
    bench.plan(g1="enough")
    assert bench.run(timesteps=4).step == 2
    bench.edit(f"sections/{SECTION}/section.toml", r"^timesteps = 4$", "timesteps = 4\nstop_when = { reward = 500.0 }")
    report = bench.run(timesteps=4)
    assert (report.state, report.step) == ("finished", 4)
