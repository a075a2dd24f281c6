"""A fresh machine with the credentials and a run id takes the run up, whatever its newest session is doing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from small_project import SECTION, Bench

from kaggle_manager.errors import ConfigError, Interrupted, NotFound
from kaggle_manager.runs.journal import Journal

pytestmark = pytest.mark.slow


def run_id_of(bench: Bench) -> str:
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        return journal.runs()[-1].run_id


def elsewhere(bench: Bench, tmp_path: Path) -> Bench:
    return Bench(bench.project, tmp_path / "another machine", bench.server)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_session_that_was_left_running_is_taken_up_with_the_tree_it_continues(
    bench: Bench, tmp_path: Path, generation: int
) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, interrupt_at=f"/{generation} (Ctrl-C")
    other = elsewhere(bench, tmp_path)
    attached = other.manager().attach(SECTION, run_id_of(bench))
    assert (attached.generation, attached.target) == (generation, 6)
    assert attached.step == (None if generation == 1 else 2)
    report = other.run(timesteps=6)
    assert (report.state, report.step) == ("finished", 6)
    assert [session.generation for session in report.sessions] == list(range(generation, 4))


def test_a_run_whose_newest_session_left_nothing_goes_on_from_the_tree_in_its_dataset(
    bench: Bench, tmp_path: Path
) -> None:
    bench.plan(g2="crash at once")
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, interrupt_at="/2 (Ctrl-C")
    other = elsewhere(bench, tmp_path)
    other.manager().attach(SECTION, run_id_of(bench))
    report = other.run(timesteps=6)
    assert [session.outcome for session in report.sessions] == ["crashed", "interrupted", "completed"]
    assert report.sessions[1].gained == 2, "from step 2, not from zero"


def test_what_cannot_be_attached_says_why_and_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    known = run_id_of(bench)
    with pytest.raises(ConfigError, match="known here already"):
        bench.manager().attach(SECTION, known)
    other = elsewhere(bench, tmp_path)
    with pytest.raises(NotFound, match="no kernel"):
        other.manager().attach(SECTION, "0" * 32)
    with pytest.raises(ConfigError, match="no run id"):
        other.manager().attach(SECTION, "../up")
    other.run(timesteps=2)
    with pytest.raises(ConfigError, match="another training"):
        other.manager().attach(SECTION, known)
