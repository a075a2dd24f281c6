"""docs/json.md is true: its tables are the fields of the code, and what is printed has the fields of its table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from make_cli_reference import commands
from small_trees import config_in, plant
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.integrations.hub import PublishReport
from kaggle_manager.integrations.track import TrackReport
from kaggle_manager.orchestrator.adopt import Adopted
from kaggle_manager.orchestrator.stop import Stopped
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.status.forecast import RunForecast
from kaggle_manager.status.history import Comparison
from kaggle_manager.status.overview import overview
from kaggle_manager.status.report import RunReport, SessionSummary, error_as_json
from kaggle_manager.status.run_status import describe_all
from kaggle_manager.sweeps.report import Confirmed, SweepReport, TrialReport
from kaggle_manager.trees.backups import Copy
from kaggle_manager.trees.compare import TreeDifference
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.export import ExportReport

SECTION = "section_7_6_rl_performance"
TYPES = {
    "run": RunReport,
    "session": SessionSummary,
    "forecast": RunForecast,
    "stop": Stopped,
    "adopt": Adopted,
    "export": ExportReport,
    "track": TrackReport,
    "publish": PublishReport,
    "copy": Copy,
    "difference": TreeDifference,
    "sweep": SweepReport,
    "trial": TrialReport,
    "confirmed": Confirmed,
}
# What can be had in moments, of a tree of two checkpoints and two runs; the code it ends with.
CHEAP: dict[str, tuple[str, int]] = {
    "status": ("overview", 0),
    "history": ("history", 0),
    "history --compare 54e9ec 8a01bc": ("comparison", 0),
    "checkpoints ls": ("checkpoints ls", 0),
    f"checkpoints show {SECTION} best": ("checkpoints show", 0),
    f"checkpoints show {SECTION} 7": ("error", 9),
    "checkpoints verify": ("checkpoints verify", 0),
    f"checkpoints diff {SECTION} latest best": ("checkpoints diff", 0),
    "checkpoints backup": ("checkpoints backup", 0),
    "restore --from latest": ("restore", 0),
    "checkpoints prune": ("checkpoints prune", 0),
    f"checkpoints export-sb3 {SECTION} nothing folder": ("error", 2),
    f"checkpoints import-sb3 {SECTION} model.zip --scenario nope": ("error", 2),
    "dashboard --html EXPORT.html": ("dashboard", 0),
    "dashboard": ("error", 2),
    f"export {SECTION} EXPORT": ("export", 0),
    f"restore {SECTION} --from EXPORT": ("restore", 0),
    f"track {SECTION} --to mlflow --scenario nope": ("error", 2),
    f"publish {SECTION} hf://owner/name --scenario nope": ("error", 2),
    "clean --platform kaggle": ("clean", 0),
    "clean --platform moon": ("error", 2),
    f"schedule {SECTION} cron": ("schedule", 0),
    f"schedule {SECTION} systemd": ("schedule", 0),
    f"stop {SECTION} --scenario nope": ("error", 2),
    f"run {SECTION} --timesteps 0": ("error", 2),
    f"tick {SECTION} --timesteps 0": ("error", 2),
    f"forecast {SECTION} --timesteps 0": ("error", 2),
    f"sweep {SECTION} --status": ("error", 9),
    f"adopt {SECTION} nothing --platform local": ("error", 2),
    f"download {SECTION} --scenario nope": ("error", 2),
    "preflight no_such_section": ("error", 2),
    "init 1-is-no-name": ("error", 2),
    "notify test": ("error", 2),
    "doctor no_such_section": ("doctor", 2),
}
# Printed by tests of their own, for they start servers or ask a network.
ELSEWHERE = {"local-kaggle demo"}


def tables() -> dict[str, set[str]]:
    """The fields of each heading of docs/json.md."""
    found: dict[str, set[str]] = {}
    page = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    for title, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        found[title] = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    return found


TABLES = tables()


@pytest.mark.parametrize("title", TYPES)
def test_a_table_has_the_fields_of_its_type_and_no_other(title: str) -> None:
    assert TABLES[title] == {field.name for field in fields(TYPES[title])}


def test_an_error_has_the_fields_of_its_table() -> None:
    assert set(json.loads(error_as_json(KaggleManagerError("it went wrong")))) == TABLES["error"]


def test_every_command_with_json_is_in_the_table_and_is_printed_here() -> None:
    having = {command.name for command in commands() if any("--json" in option.opts for option in command.options)}
    printed = {name for name in having for line in CHEAP if line == name or line.startswith(f"{name} ")}
    assert having - printed == ELSEWHERE
    overview_table = (ROOT / "docs/json.md").read_text(encoding="utf-8").split("\n## ")[0]
    for name in having:
        assert f"`{name}`" in overview_table, name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a tree of two checkpoints, and a journal with two runs of it."""
    work = tmp_path_factory.mktemp("work")
    config = config_in(work)
    plant(config.tree, identity=current_identity(config))
    journal = Journal(config.journal)
    for run_id in ("54e9ec" + "0" * 26, "8a01bc" + "0" * 26):
        at = "2026-11-22T03:00:00+00:00"
        names = (run_id, SECTION, config.scenario_name, 9, False, str(config.tree), "local", "local", "slug", at)
        journal.add_run(RunRow(*names))  # type: ignore[arg-type]
    journal.close()
    return work


@pytest.fixture
def alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials and settings of whoever runs the tests; no network is asked."""
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "KM_"))]:
        monkeypatch.delenv(name)
    for name, value in (("HOME", str(place)), ("XDG_CONFIG_HOME", str(place / "config")), ("KM_WORKDIR", str(place))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("USERPROFILE", str(place))
    return place


@pytest.mark.parametrize("line", CHEAP)
def test_one_document_on_stdout_with_the_fields_of_its_table_and_nothing_else(line: str, alone: Path) -> None:
    title, code = CHEAP[line]
    done = CliRunner().invoke(app, [*line.replace("EXPORT", str(alone / "export")).split(), "--json"])
    assert done.exit_code == code, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    expected = TABLES[title] | {"schema"} | (TABLES["run"] if title == "overview" else set())
    assert set(document) == expected
    for name, inner in inner_documents(document, title):
        assert set(inner) - {"hashes"} == TABLES[name] if name == "copy" else set(inner) == TABLES[name]


def inner_documents(document: dict[str, Any], title: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, kind in (("runs", "run"), ("sessions", "session"), ("differences", "difference"), ("copies", "copy")):
        values = document.get(name)
        yield from ((kind, each) for each in (values if isinstance(values, list) else []) if isinstance(each, dict))
    if title == "checkpoints ls":
        yield from (("checkpoints show", each) for each in document["checkpoints"])


def test_nothing_was_ever_run_is_a_document_too(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", "--json", "--workdir", str(tmp_path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["state"] == "none"
    assert set(json.loads(done.stdout)) == {
        "schema",
        "runs",
        "left_out",
        "state",
        "why",
        "next",
        "human_action_required",
    }


def test_watching_prints_a_document_a_line(alone: Path) -> None:
    command = [sys.executable, "-m", "kaggle_manager.cli", "status", "--json", "--watch", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(2)]
        watching.kill()
    assert [json.loads(line)["schema"] for line in lines] == [1, 1]


def test_python_has_the_same_documents(place: Path) -> None:
    journal = Journal(place / "journal.sqlite")
    runs = describe_all(journal, 0.0)
    assert set(overview(journal, None, 0.0).as_json()) == TABLES["overview"] | TABLES["run"] | {"schema"}
    assert set(Comparison.of(runs[0], runs[1]).as_json()) == TABLES["comparison"] | {"schema"}
    journal.close()
