"""A change of the environment in the middle of a training: shown in lines, and gone on with where the user says so."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from small_project import SCENARIO, Bench

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import CheckpointIncompatible, Interrupted
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions.bundle import order_of

pytestmark = pytest.mark.slow

SOURCE = "sections/small/environment.py"
STATES = r"^STATES = .*$"


def accepted_in(bench: Bench) -> bool:
    """Whether the newest session was told to go on with a change."""
    script = next(bench.newest_session().rglob("*.py"))
    order = order_of(script.read_text(encoding="utf-8"))
    assert order is not None
    return bool(order["accept_changes"])


def test_a_docstring_changes_nothing_and_a_line_is_shown(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.edit(SOURCE, STATES, '"""What the task is."""\n\n# as many as there are\nSTATES = 3')
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP2]")
    bench.edit(SOURCE, STATES, "STATES = 4")
    with pytest.raises(CheckpointIncompatible) as refused:
        bench.run(timesteps=4)
    assert "environment.py changed" in refused.value.message
    assert {"-STATES = 3", "+STATES = 4"} <= {line.strip() for line in refused.value.message.splitlines()}
    assert not re.search("[0-9a-f]{64}", refused.value.message)
    assert "--accept-changes" in refused.value.next_step
    assert bench.steps() == [2, 1]


def test_what_the_last_session_was_sent_to_train_is_finished_whatever_was_edited_meanwhile(bench: Bench) -> None:
    bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP3]")
    bench.edit(SOURCE, STATES, "STATES = 4")
    assert bench.run(timesteps=4).state == "finished"
    assert bench.steps() == [4, 3]
    assert "environment.py changed" in bench.output
    with pytest.raises(CheckpointIncompatible, match=r"environment\.py changed"):
        bench.run(timesteps=4)


def test_an_accepted_change_goes_on_through_a_crash_and_a_later_one_is_refused_again(bench: Bench) -> None:
    run_id = bench.run(timesteps=2).run_id
    bench.edit(SOURCE, STATES, "STATES = 4")
    bench.plan(g2="crash at once", g3="crash at once")
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, accept_changes=True, interrupt_at="[STEP3]")
    assert accepted_in(bench)
    bench.plan(g3="crash at once")
    assert bench.run(timesteps=4).step == 4, "the same change needs to be accepted once"
    assert bench.output.count("[STEP2]") == 2
    assert bench.output.count("+STATES = 4") == 1, "shown once, though two sessions go on with it"
    with closing(Journal.to_read(bench.workdir / "journal.sqlite")) as journal:
        noted = [event["detail"] for event in journal.events(run_id, "changes_accepted")]
    assert len(noted) >= 2
    assert all(detail == {"what": "environment.py", "step": 2} for detail in noted)

    bench.edit(SOURCE, STATES, "STATES = 5")
    with pytest.raises(CheckpointIncompatible):
        bench.manager().tick("small", timesteps=6)
    assert bench.manager().tick("small", timesteps=6, accept_changes=True).state in ("queued", "running")


def test_before_the_push_an_accepted_change_is_tried_against_the_identity_of_its_checkpoint(bench: Bench) -> None:
    bench.run(timesteps=2)
    bench.edit(SOURCE, STATES, "STATES = 4")
    manager, seen = bench.manager(), []
    manager._passes.check_before_push = lambda config, reporter, stated: seen.append(stated)
    manager.tick("small", timesteps=4, accept_changes=True)
    assert [stated["scenario"] for stated in seen] == [SCENARIO]


def test_a_copy_from_before_a_change_comes_back_where_the_user_says_so(bench: Bench) -> None:
    bench.run(timesteps=2)
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="[STEP3]")
    bench.edit(SOURCE, STATES, "STATES = 4")
    with pytest.raises(CheckpointIncompatible, match=r"environment\.py changed"):
        bench.run(timesteps=6)
    assert bench.run(timesteps=6, accept_changes=True).step == 6
    (before, *_) = sorted((bench.workdir / "replaced").rglob("before_generation_2"))
    assert CheckpointStore(TrainingTree(before, SCENARIO)).valid_checkpoints()
    with pytest.raises(CheckpointIncompatible):
        bench.manager().restore_copy("small", before)
    bench.manager().restore_copy("small", before, accept_changes=True)
    assert "--accept-changes" in bench.output
    assert bench.steps() == [2, 1]
