"""An installed program has no project of its own: where none is, a command that needs one says how to begin.

Nothing is written then; what needs no project works.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from make_cli_reference import commands
from small_trees import plant
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.cli.doctor import account
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow

# Every command that is about a section or a state folder, with what it must be given.
NEEDS_A_PROJECT = {
    "run": "",
    "tick": "x",
    "status": "",
    "history": "",
    "forecast": "x",
    "logs": "x",
    "stop": "x",
    "download": "x",
    "adopt": "x 54e9ec",
    "publish": "x hf://me/model",
    "report": "x",
    "sweep": "x",
    "track": "x --to mlflow",
    "restore": "x --from there",
    "export": "x there",
    "clean": "--yes",
    "schedule": "x cron --write",
    "dashboard": "--html runs.html",
    "preflight": "x",
    "checkpoints ls": "",
    "checkpoints show": "x best",
    "checkpoints verify": "",
    "checkpoints diff": "x latest best",
    "checkpoints backup": "",
    "checkpoints prune": "--yes",
    "checkpoints export-sb3": "x latest there",
    "checkpoints import-sb3": "x model.zip --replace",
}
# The same with other options: what they ask for must not come before the project is looked for.
VARIANTS = (
    *("run x --quick", "run x --demo", "run x --seeds 3 --workdir there"),
    *("tick x --workdir there", "status x --json", "stop x --workdir there", "schedule x github --package p --write"),
    *("export x there --workdir there", "checkpoints ls x --workdir there", "doctor x"),
)
# The others, and what shows that they work; `-`: shown here.
NEEDS_NONE = {
    "doctor": "-",
    "init": "test_project_and_scaffold",
    "selftest exactness": "test_trainer_killed_and_resumed",
    "local-kaggle serve": "test_local_kaggle_official_command",
    "local-kaggle stop": "-",
    "local-kaggle demo": "test_local_kaggle_demo",
    "notify test": "-",
}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder one stands in, nobody's settings or credentials, and no network."""
    for name in [name for name in os.environ if name.startswith(("KM_", "KAGGLE_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(account, "ask", lambda *_: [])
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(line: str) -> Any:
    return CliRunner().invoke(app, line.split())


def test_of_every_command_it_is_known_whether_it_needs_a_project() -> None:
    assert {command.name for command in commands()} == NEEDS_A_PROJECT.keys() | NEEDS_NONE.keys()


@pytest.mark.parametrize("line", [*(f"{name} {given}" for name, given in NEEDS_A_PROJECT.items()), *VARIANTS])
def test_a_command_that_needs_a_project_says_how_to_begin_and_writes_nothing(line: str, empty: Path) -> None:
    asked = call(line)
    assert asked.exit_code == 2, asked.output
    assert "No project is here" in asked.output
    assert "km init" in asked.output
    assert list(empty.parent.rglob("*")) == [empty]


@pytest.mark.parametrize("line", ["status --workdir there", "dashboard --html runs.html --workdir there"])
def test_a_variable_that_names_no_project_is_reported_alike_by_what_shows_the_runs(
    line: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_PROJECT", str(empty / "nowhere"))
    asked = call(line)
    assert asked.exit_code == 2, asked.output
    assert "Next: correct KM_PROJECT" in asked.output


def test_the_doctor_looks_at_all_else_and_says_in_one_line_that_no_project_is_here(empty: Path) -> None:
    asked = call("doctor --json")
    assert asked.exit_code == 0, asked.output
    checks = {check["name"]: check for check in json.loads(asked.stdout)["checks"]}
    assert {"python", "packages", "credentials", "verification", "project"} == checks.keys()
    assert checks["project"]["state"] == "caution"
    assert checks["project"]["todo"].startswith("km init NAME")
    assert list(empty.parent.rglob("*")) == [empty]


def test_a_project_that_cannot_be_used_is_a_problem_beside_all_else(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_PROJECT", str(empty))
    asked = call("doctor --json")
    assert asked.exit_code == 2
    checks = {check["name"]: check for check in json.loads(asked.stdout)["checks"]}
    assert (checks["project"]["state"], "KM_PROJECT" in checks["project"]["says"]) == ("problem", True)
    assert "credentials" in checks


def test_a_project_without_a_section_says_how_to_make_one(empty: Path) -> None:
    (empty / "pyproject.toml").write_text("[tool.kaggle-manager]\n")
    for line in ("run x", "checkpoints ls"):
        asked = call(line)
        assert asked.exit_code == 2
        assert "has no section yet" in asked.stderr
        assert "km init" in asked.stderr


@pytest.mark.parametrize(("line", "code"), [("--version", 0), ("local-kaggle stop", 0), ("notify test", 2)])
def test_what_is_about_no_section_works(line: str, code: int, empty: Path) -> None:
    asked = call(line)
    assert asked.exit_code == code
    assert "project" not in asked.output
    assert list(empty.parent.rglob("*")) == [empty]


def test_a_state_folder_and_a_tree_that_are_named_need_no_project(empty: Path) -> None:
    """A disk that came from another machine, without the section that was trained."""
    plant(empty / "there/tree")
    names = ("54e9ec" + "0" * 26, "mine", "traffic_light_control", 9, False, str(empty / "there/tree"))
    with closing(Journal(empty / "there/journal.sqlite")) as journal:
        journal.add_run(RunRow(*names, "local", "local", "slug", "2026-11-22T03:00:00+00:00"))
    for line in ("status", "status mine", "history", "history mine"):
        asked = call(f"{line} --workdir there --json")
        assert asked.exit_code == 0, asked.output
        assert [run["run_id"][:6] for run in json.loads(asked.stdout)["runs"]] == ["54e9ec"]
    assert call("dashboard --html runs.html --workdir there").exit_code == 0
    assert "mine" in (empty / "runs.html").read_text(encoding="utf-8")
    assert "every byte as its manifest says" in call("checkpoints verify --folder there/tree").stdout
