"""A run in Weights & Biases, in its offline mode: one run over all sessions, whole in what its own command sends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_trees import SECTION
from tracked_world import RUN, begin, grow
from typer.testing import CliRunner
from wandb_file import kept

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import AuthError, ConfigError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of the library's own code
    pytest.mark.skipif(
        find_spec("wandb") is None, reason="no wandb: pip install -c constraints.txt -e '.[train,dev,wandb]'"
    ),
]
TOKEN = "0123456789abcdef0123456789abcdef" + "01234567"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "KM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", TOKEN)
    yield
    import wandb

    wandb.teardown()


def track(folder: Path, *options: str, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["track", SECTION, "--to", "wandb", "--workdir", str(folder), "--json", *options])
    assert done.exit_code == code, done.output
    assert TOKEN not in done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_all_sessions_are_one_run_that_is_whole_in_its_newest_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    config = begin(work)
    grow(config, 1)
    first = track(work)
    assert (first["tracked_as"], first["up_to_date"]) == (RUN, False)
    again = track(work)
    assert (again["points"], again["up_to_date"], again["where"]) == (0, True, first["where"])
    grow(config, 2, is_last=True)
    second = track(work)
    folder = Path(second["where"])
    assert folder.name.startswith("offline-run-")
    assert list((work / "tracking/wandb").glob("offline-run-*")) == [folder], "the other would replace it"
    run, rows, summary = kept(folder)
    assert (run.run_id, run.project, run.run_group) == (RUN, SECTION, config.scenario_name)
    evaluations = [(row["timesteps"], row["eval/mean_reward"]) for row in rows if "eval/mean_reward" in row]
    assert evaluations == [(step, step) for step in (50, 100, 150, 200)]
    assert [row["session"] for row in rows if "session" in row] == [1, 2]
    assert summary["exactness"] == "exact"
    lineage = json.loads((folder / "files/lineage.json").read_text())
    assert [row["last_step"] for row in lineage["sessions"]] == [100, 200]
    everything = [path.read_bytes() for path in work.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in data for data in everything)


def test_another_project_is_told_the_whole_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    grow(begin(work), 1)
    track(work)
    assert track(work, "--project", "another")["up_to_date"] is False
    run, _, _ = kept(Path(track(work, "--project", "another")["where"]))
    assert run.project == "another"


def test_switched_off_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    grow(begin(tmp_path / "work"), 1)
    assert "WANDB_MODE" in track(tmp_path / "work", code=ConfigError.exit_code)["next"]


def test_without_an_account_it_says_how_to_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    grow(begin(tmp_path / "work"), 1)
    assert "wandb login" in track(tmp_path / "work", code=AuthError.exit_code)["next"]
