"""A section without a report of its own is told what there is instead, in commands that run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.scaffold import new_section


def test_without_a_report_of_its_own_the_commands_that_show_results_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_section("mine", tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", "mine"])
    assert done.exit_code == ConfigError.exit_code
    assert "The section mine brings no report of its own" in done.stderr
    named = [line.partition(" (")[0].split() for line in done.stderr.splitlines() if line.startswith("  ")]
    own = [words[1:] for words in named if words[0] == "km"]
    assert [words[0] for words in own] == ["status", "history", "dashboard"]
    assert named[-1][0] == "tensorboard"
    for words in own:
        again = CliRunner().invoke(app, words)
        assert again.exit_code == 0, again.output
