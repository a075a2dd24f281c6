"""Every later version takes up what a release has left on a machine: journal, trees, listings, exports, documents."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from format_place import FIXTURES, RELEASES, put_to_work
from script_project import files_of, state_after
from typer.testing import CliRunner

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, read_metadata, unpack_tree
from kaggle_manager.checkpoints.archive import INDEX_NAME
from kaggle_manager.cli.commands import app
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.protocol.file_names import START_FILE
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import reconcile, watch

DONE, ENDED, LATER = 20, 30, 40
"""Epochs of `toy`: those that were restored, those of the session that had ended, and what is asked for now."""


@pytest.fixture(params=RELEASES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = put_to_work(request.param, tmp_path)
    monkeypatch.chdir(folder / "project")
    for name in ("HOME", "USERPROFILE"):  # no settings of whoever runs the tests
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("KM_WORKDIR", str(folder / "work"))
    return folder


def printed(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def tree_of(work: Path, section: str = "toy") -> TrainingTree:
    return TrainingTree(work / "sections" / section / "trained/models", section)


def differences(then: Any, now: Any, at: str = "") -> Iterator[str]:
    """Where a document does not keep what it promised: each field is there, and is of the same kind."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in then:
            if name not in now:
                yield f"{at}.{name} is gone"
            else:
                yield from differences(then[name], now[name], f"{at}.{name}")
    elif isinstance(then, list) and isinstance(now, list):
        if then and not now:  # fewer there may be: the copies in downloads were left out of the fixture
            yield f"{at} is empty"
        for number, (one, other) in enumerate(zip(then, now, strict=False)):
            yield from differences(one, other, f"{at}[{number}]")
    elif None not in (then, now) and kind(then) != kind(now):
        yield f"{at} is {now!r} where it was {then!r}"


def kind(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def test_each_document_is_printed_with_the_fields_it_had(place: Path) -> None:
    for said in sorted((place / "said/printed").glob("*.json")):
        then, now = json.loads(said.read_bytes()), printed(*said.stem.split("."))
        assert list(differences(then, now)) == [], said.stem
        if said.stem in ("status", "history"):
            known = ("run_id", "section", "scenario", "target", "step", "state", "sessions")
            runs = [[run[name] if name != "sessions" else len(run[name]) for name in known] for run in now["runs"]]
            assert runs == [
                [run[name] if name != "sessions" else len(run[name]) for name in known] for run in then["runs"]
            ]


def test_every_tree_is_sound(place: Path) -> None:
    trees = sorted(path.parent.parent for path in (place / "work/sections").rglob("checkpoints/*.manifest.json"))
    assert len({*trees}) == 5, "two agents, a script, and two trials of a sweep"
    for of in (
        ["toy"],
        ["line_dqn"],
        ["line_ppo"],
        *(["swept", "--scenario", f"swept_trial_{trial}"] for trial in (0, 1)),
    ):
        assert printed("checkpoints", "verify", *of)["files"] > 0
        found = printed("checkpoints", "ls", *of)["checkpoints"]
        assert {each["problem"] for each in found} == {""}, found
    assert all(read_metadata(tree / "training_metadata.json") for tree in trees if "line_" in str(tree))


@pytest.mark.slow
def test_a_session_that_ended_before_the_update_comes_home_and_the_next_one_continues(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    monkeypatch.setattr(reconcile, "LOOK_EVERY_S", 0.0)
    work, said = place / "work", io.StringIO()
    manager = ValidationKaggleManager(
        platform="local",
        workdir=work,
        project_root=place / "project",
        reporter=Reporter(said),
        check_before_push=lambda *_: None,
    )
    try:
        report = manager.run_validation_section("toy", timesteps=LATER)
    finally:
        stop(work / "local_kaggle")
    assert [session["step"] for session in report.as_json()["sessions"]] == [DONE, ENDED, LATER], said.getvalue()
    assert f"resumes from step {ENDED}" in said.getvalue()
    final = CheckpointStore(tree_of(work)).final()
    assert final is not None
    assert files_of(final, tmp_path / "final")["state.bin"] == state_after(LATER), "as if nothing had been updated"


def test_the_checkpoint_of_a_script_is_what_it_saved(place: Path, tmp_path: Path) -> None:
    (checkpoint,) = CheckpointStore(tree_of(place / "work")).valid_checkpoints()
    assert files_of(checkpoint, tmp_path / "files") == {"state.bin": state_after(DONE), "parts/.odd name": b"20"}


@pytest.mark.parametrize("source", ["export", "work/backups/*"])
def test_an_export_and_a_backup_are_restored_on_another_machine(place: Path, source: str, tmp_path: Path) -> None:
    (found,) = place.glob(source)
    done = printed("restore", "toy", "--from", str(found), "--workdir", str(tmp_path / "elsewhere"))
    assert done["step"] == DONE
    (checkpoint,) = CheckpointStore(tree_of(tmp_path / "elsewhere")).valid_checkpoints()
    assert checkpoint.read("state.bin") == state_after(DONE)


def test_a_tree_that_was_sent_is_unpacked(place: Path, tmp_path: Path) -> None:
    (sent,) = {path.parent for path in place.rglob(INDEX_NAME)}
    index = unpack_tree(sent, tmp_path / "tree")
    (checkpoint,) = CheckpointStore(TrainingTree(tmp_path / "tree", "toy")).valid_checkpoints()
    assert (checkpoint.manifest.sha256, checkpoint.step) == (index.head_manifest_sha256, DONE)


def test_what_a_session_is_told_and_says_first_is_read(place: Path) -> None:
    order = read_order(json.loads((place / "said/launch_order.json").read_bytes()))
    assert (order.scenario, order.target, order.generation) == ("toy", ENDED, 2)
    starts = [SessionStart.from_json(json.loads(path.read_bytes())) for path in place.rglob(START_FILE)]
    assert {start.run_id for start in starts} >= {order.run_id}
    with closing(Journal.to_read(place / "work/journal.sqlite")) as journal:
        assert {start.run_id for start in starts} <= {run.run_id for run in journal.runs()}


def test_there_is_a_release() -> None:
    assert RELEASES, f"{FIXTURES} is empty: python scripts/make_format_fixtures.py"
