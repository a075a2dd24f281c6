"""A script of the user's, over several sessions of a local Kaggle: cut, killed, resumed, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from script_project import TRAIN, ScriptBench, files_of, state_after
from small_project import free_slots

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.errors import KaggleManagerError, VerificationError
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.sessions import reconcile, watch

pytestmark = pytest.mark.slow

KILLED = "if step == 25 and not resume: time.sleep(1); os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"


@pytest.fixture
def scripts(tmp_path: Path, kaggle_here: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptBench]:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(reconcile, "LOOK_EVERY_S", 0.0)
    (tmp_path / "project").mkdir()
    yield ScriptBench(tmp_path / "project", tmp_path / "work", kaggle_here)
    free_slots(kaggle_here.root)


def test_killed_and_cut_it_ends_with_the_bits_of_one_that_was_never_cut(scripts: ScriptBench, tmp_path: Path) -> None:
    # The first session is killed after step 20 was saved; the second is asked to stop.
    stopped = "\nif resume and step == 33:\n    os.kill(os.getppid(), signal.SIGTERM)"
    stopped += "\n    while not stopped: time.sleep(0.02)"
    scripts.write(KILLED + stopped, more='best = { metric = "loss" }')
    scripts.run()
    sessions = CheckpointStore(scripts.tree).valid_checkpoints()
    assert [(each.step, each.manifest.lineage.generation) for each in sessions] == [(40, 3), (33, 2)], scripts.output
    final = scripts.final()
    assert final is not None
    assert files_of(final, tmp_path / "final") == {"state.bin": state_after(40), "parts/.odd name": b"40"}
    best = CheckpointStore(scripts.tree).best()
    assert best is not None
    assert (best.step, best.manifest.metrics["value"]) == (30, 0.0), "though later values were told by then"
    lines = [json.loads(line) for line in (scripts.tree.history / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41)), "each once, though five were trained twice"
    assert "killed" in scripts.output or "ended with code -9" in scripts.output
    assert " · loss " in scripts.output


def test_a_quick_run_of_a_script_shows_a_resume(scripts: ScriptBench) -> None:
    scripts.write(more='best = { metric = "loss" }')
    scripts.run(quick=True)
    assert "over 2 sessions" in scripts.output
    assert "the script begins at 2" in scripts.output


def test_a_script_that_starts_again_from_zero_is_told_so(scripts: ScriptBench) -> None:
    scripts.write(script=TRAIN.replace("if resume:", "if False:"))
    scripts.run(quick=True)
    assert "it started again from zero although it was given the checkpoint of step 2, of which it" in scripts.output


def test_a_script_that_starts_again_from_zero_and_saves_backwards_is_told_the_cause(scripts: ScriptBench) -> None:
    scripts.write("if resume and step == 1: save(); time.sleep(3)", script=TRAIN.replace("if resume:", "if False:"))
    with pytest.raises(KaggleManagerError) as caught:
        scripts.run(quick=True)
    assert "saved step 1 after step 2. The cause: it started again from zero" in str(caught.value)


def test_a_quick_run_whose_best_metric_is_never_told_names_those_that_are(scripts: ScriptBench) -> None:
    scripts.write(more='best = { metric = "los" }')
    with pytest.raises(VerificationError, match=r"best checkpoint by los \(it told loss\)"):
        scripts.run(quick=True)


def test_the_first_session_of_a_quick_run_has_the_schedule_of_the_whole_run(scripts: ScriptBench) -> None:
    scripts.write("print('rate', 1 - step / target)")
    scripts.run(quick=True)
    assert all(f"rate {rate}" in scripts.output for rate in (0.75, 0.5, 0.25, 0.0)), scripts.output
