"""What is neither a folder nor a file, where one belongs, is not "nothing yet": every command says what is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.cli.doctor import account
from kaggle_manager.sections.scaffold import new_section

STATE, TREE = ".kaggle_manager", "sections/mine/data/models"


def dangling(place: Path) -> None:
    place.symlink_to("/nowhere/disk")


def loop(place: Path) -> None:
    place.symlink_to(place.name)


def file(place: Path) -> None:
    place.touch()


CASES = [
    (f"{STATE}/journal.sqlite", Path.mkdir, "is not a file"),
    (f"{STATE}/journal.sqlite", dangling, "which is not there"),
    (f"{STATE}/journal.sqlite", loop, "leads back to itself"),
    (STATE, dangling, "which is not there"),
    (STATE, file, "is not a folder"),
    ("sections/mine/data", dangling, "which is not there"),
    ("sections/mine/data", loop, "leads back to itself"),
    (TREE, dangling, "which is not there"),
    (TREE, loop, "leads back to itself"),
    (TREE, file, "is not a folder"),
]


def typed(command: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, shlex.split(command), env={"COLUMNS": "1000"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output + done.stderr


@pytest.mark.parametrize(("where", "put", "says"), CASES)
def test_doctor_status_and_ls_say_what_is_there_and_what_they_advise_helps(
    where: str, put: Callable[[Path], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_section("mine", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(account, "ask", lambda *_: [])
    place = tmp_path / "project" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    put(place)
    commands = ["doctor mine", "status mine", "checkpoints ls mine"]
    for command in commands:
        code, shown = typed(command)
        assert code == 1, command
        assert says in shown, command
        assert "free space" not in shown
        assert str(place) in shown
    if advised := re.search(r"remove the link: (rm \S+?)[;.,]?(\s|$)", shown):
        subprocess.run(shlex.split(advised[1]), check=True)
    else:
        place.rename(place.with_name("moved"))
    assert [typed(command)[0] for command in commands] == [0, 0, 0]
