"""Every command that is about a training tree takes the options that name one, and hands them on as they were given."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import pytest
import typer
from make_cli_reference import commands
from small_trees import SECTION, config_in, plant
from typer.testing import CliRunner

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.cli.commands import app
from kaggle_manager.cli.common import JsonOption
from kaggle_manager.cli.selection import RunOf, Selection, Training, TreeOf, as_command
from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError, NotFound
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.inspect import saved_step

# Begins a tree from files (without a seed of its own), and looks at sections, not at trees.
WITHOUT_SEED = {"checkpoints import-sb3", "preflight"}


def test_every_command_about_a_tree_takes_a_seed() -> None:
    options = {each.name: {name for option in each.options for name in option.opts} for each in commands()}
    about_a_tree = {name for name, names in options.items() if "--scenario" in names} - WITHOUT_SEED
    assert len(about_a_tree) >= 17
    assert {name for name in about_a_tree if "--seed" not in options[name]} == set()


def called(function: object, *line: str) -> list[str]:
    """What a command of its own hands on; its exit code last."""
    own = typer.Typer(rich_markup_mode=None)
    own.command()(as_command(function))  # type: ignore[arg-type]
    done = CliRunner().invoke(own, [*line])
    return [*done.stdout.splitlines(), str(done.exit_code)]


def test_options_arrive_as_one_value_and_the_section_is_the_first_argument() -> None:
    def send(url: Annotated[str, typer.Argument()], *, of: RunOf, as_json: JsonOption = False) -> None:
        print(url)
        print(of)

    line = ["walk", "s3://x", "--seed", "3", "--quick", "--platform", "local", "--workdir", "w"]
    expected = RunOf("walk", seed=3, quick=True, platform="local", workdir=Path("w"))
    assert called(send, *line) == ["s3://x", str(expected), "0"]


def test_an_option_that_a_command_does_not_offer_is_refused() -> None:
    def look(*, of: TreeOf) -> None:
        print(of.platform)

    assert called(look, "walk") == ["None", "0"]
    assert called(look, "walk", "--platform", "local")[-1] == "2"


@pytest.mark.parametrize("line", [["walk"], ["walk", "--json"]])
def test_an_error_ends_with_its_code_and_as_a_document_where_one_is_asked_for(line: list[str]) -> None:
    def look(*, of: TreeOf, as_json: JsonOption = False) -> None:
        raise NotFound("Nothing is here.")

    *said, code = called(look, *line)
    assert code == str(NotFound.exit_code)
    assert ("Nothing is here." in "".join(said)) is ("--json" in line)


def test_a_selection_is_the_configuration_of_its_run(tmp_path: Path) -> None:
    given = {"scenario": None, "timesteps": 500, "seed": 4, "quick": True, "platform": "local", "workdir": tmp_path}
    assert Selection(SECTION, **given).config() == build_config(SECTION, **given)  # type: ignore[arg-type]
    assert Selection(SECTION, **given).config(timesteps=7).target == 7  # type: ignore[arg-type]


def test_a_backup_of_another_seed_goes_back_by_the_command_that_is_printed(tmp_path: Path) -> None:
    config = build_config(SECTION, scenario=config_in(tmp_path).scenario_name, seed=41, workdir=tmp_path)
    plant(config.tree, identity=current_identity(config))
    options = [SECTION, "--scenario", config.scenario_name, "--seed", "41", "--workdir", str(tmp_path)]
    made = CliRunner().invoke(app, ["checkpoints", "backup", *options])
    shutil.rmtree(config.tree)
    (command,) = [line.partition("back again: ")[2] for line in made.stdout.splitlines() if "back again" in line]
    back = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json"])
    assert back.exit_code == 0, back.output
    assert json.loads(back.stdout)["tree"] == str(config.tree)
    assert saved_step(TrainingTree(config.tree, config.scenario_name)) == 2


def test_how_many_sessions_run_at_once_is_about_several_runs() -> None:
    with pytest.raises(ConfigError, match="--max-sessions"):
        Training("walk", max_sessions=2)
    assert Training("walk", max_sessions=2, seeds=3).max_sessions == 2
