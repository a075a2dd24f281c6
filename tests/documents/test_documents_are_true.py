"""What the documents tell a reader to type works: it is run here, or parsed by the real parser with the reason why.

Every link leads somewhere, and no page names a command or an option that does not exist.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from documents import PAGES, PROGRAMS, ROOT, Written, anchors, blocks, commands, links, spans
from make_cli_reference import commands as cli_commands
from small_trees import config_in, plant
from typer.testing import CliRunner

from kaggle_manager import RunReport, SessionSummary, ValidationKaggleManager
from kaggle_manager.cli.commands import app
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.export.send import report_folder

COMMANDS = {command.name: command for command in cli_commands()}
# Run here in a work folder with a small tree, in the order of the page.
RUN = {
    "status",
    "history",
    "checkpoints ls",
    "checkpoints show",
    "checkpoints verify",
    "checkpoints diff",
    "checkpoints prune",
    "checkpoints backup",
    "export",
    "restore",
    "schedule",
    "dashboard",
    "local-kaggle stop",
}
# Parsed only; what runs them.
PARSED = {
    "run": "a whole training: test_whole_circle, test_own_environment, test_exit_codes",
    "tick": "test_exit_codes, test_ticks_carry_a_run",
    "forecast": "starts a local Kaggle: test_ticks_carry_a_run",
    "logs": "needs a session: test_ticks_carry_a_run",
    "stop": "needs a run: test_ticks_carry_a_run",
    "download": "needs a session: test_a_download_of_a_session_resumes",
    "clean": "asks a platform: test_clean",
    "adopt": "needs a run of another machine: test_a_run_is_adopted",
    "report": "needs a training: test_report_says_what_the_data_say",
    "doctor": "asks the network: test_doctor",
    "init": "tries an environment: test_own_environment, test_project_and_scaffold",
    "preflight": "trains: test_preflight, test_own_environment",
    "checkpoints export-sb3": "needs a trained model: test_trainer_exchanges_with_stock_sb3",
    "checkpoints import-sb3": "needs a trained model: test_trainer_exchanges_with_stock_sb3",
    "selftest exactness": "minutes of training: test_trainer_killed_and_resumed",
    "local-kaggle serve": "serves for ever: test_local_kaggle_official_command",
    "local-kaggle demo": "test_local_kaggle_demo",
    "notify test": "sends: test_notifier",
    "sweep": "many trainings: test_a_sweep_is_carried_on",
    "track": "needs a tracker: test_a_run_is_tracked_in_mlflow, test_a_run_is_tracked_in_wandb",
    "publish": "needs a hub: test_a_model_is_published, test_a_published_model_plays_again",
}
# Options with which a command that is run here would write outside the work folder, or go on for ever.
PARSED_WITH = {"--write", "--remove", "--watch"}
# Programs that are not ours. The official client is run by test_local_kaggle_official_command.
FOREIGN = {"kaggle", "export", "unset", "pip", "gh", "tensorboard", "cd", "git", "make", "apt-get", "sudo", "loginctl"}
FOREIGN |= {"optuna-dashboard", "wandb", "hf"}
# Options of theirs, and of the setup, that sentences name.
FOREIGN_OPTIONS = {"--accelerator", "--user", "--timeout", "--logdir", "--help", "--without-pip", "--no-browser"}
# What stands for a place of the reader's own.
STAND_INS = {
    "s3://bucket/traffic": "bucket",
    "s3://bucket/run": "bucket",
    "/mnt/usb/traffic": "usb",
    "/media/usb/models": "work/archive/older",
    "runs.html": "runs.html",
    "/tmp/kaggle": "kaggle",
}


@cache
def whole_command() -> Any:
    return typer.main.get_command(app)


def parse(words: list[str], *, lenient: bool = False) -> Any:
    """The command of a line, after the real parser has taken it; `lenient` lets what must be given be missing."""
    node: Any = whole_command()
    context = node.make_context(words[0], words[1:]) if words[1:] else None
    names: list[str] = []
    while context is not None and getattr(node, "commands", None):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, child, rest = node.resolve_command(context, rest)
        names.append(name)
        try:
            context, node = child.make_context(name, list(rest), parent=context), child
        except Exception as error:
            if lenient and type(error).__name__ in ("MissingParameter", "Exit"):
                return names
            raise
    return names


def our_programs() -> list[Written]:
    return [each for page in PAGES for each in commands(page) if each.words[0] in PROGRAMS]


def unwrapped(words: list[str]) -> list[str]:
    """A `python ...` line without the set-up in front: [script or module, *options]."""
    words = words[1:]
    if words and words[0].endswith("scripts/bootstrap.py"):
        words = words[1:]
    return words[1:] if words and words[0] == "-m" else words


def python_programs() -> list[Written]:
    found = [each for page in PAGES for each in commands(page) if re.match(r"(\S*/)?python3?$", each.words[0])]
    return [each for each in found if unwrapped(each.words) and unwrapped(each.words)[0] not in ("-c", "pytest")]


def run_as_program(name: str) -> None:
    if name.endswith(".py"):
        runpy.run_path(str(ROOT / name), run_name="__main__")
    else:
        runpy.run_module(name, run_name="__main__")


@cache
def help_of(program: str) -> str:
    """What a script or module of ours says to `--help`, in this process."""
    said = io.StringIO()
    arguments, sys.argv = sys.argv, [program, "--help"]
    sys.path.insert(0, str((ROOT / program).parent))
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a module had been imported before
            with pytest.raises(SystemExit) as left:
                run_as_program(program)
    finally:
        sys.argv = arguments
        sys.path.pop(0)
    assert not left.value.code, said.getvalue()
    return said.getvalue()


def test_every_command_is_run_here_or_it_is_said_what_runs_it() -> None:
    assert set(COMMANDS) == RUN | set(PARSED)
    assert not RUN & set(PARSED)
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    named = {name for reason in PARSED.values() for name in re.findall(r"test_\w+", reason)}
    assert named <= tests


@pytest.mark.parametrize("written", our_programs(), ids=str)
def test_the_real_parser_takes_every_line(written: Written) -> None:
    assert " ".join(parse(written.words)) in COMMANDS


@pytest.mark.parametrize("written", python_programs(), ids=str)
def test_a_script_or_module_has_the_options_it_is_given(written: Written) -> None:
    program, *options = unwrapped(written.words)
    if program == "scripts/run_kaggle_validation_section_7_6.py":
        assert parse(["km", "run", "section_7_6_rl_performance", *options]) == ["run"]
        return
    if program == "kaggle_manager.cli":
        parse(["km", *options])
        return
    said = help_of(program)
    for option in (word.partition("=")[0] for word in options if word.startswith("--")):
        assert re.search(rf"{re.escape(option)}\b", said), f"{program} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_nothing_else_is_to_be_typed(page: Path) -> None:
    for each in commands(page):
        first = each.words[0]
        assert first in PROGRAMS or first in FOREIGN or re.match(r"(\S*/)?python3?$", first), str(each)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_sentences_name_commands_and_options_that_exist(page: Path) -> None:
    options = [option for command in COMMANDS.values() for option in command.options] + whole_command().params
    known = {spelling for option in options for spelling in every(option)}
    for span in spans(page):
        words = span.split()
        if words[0] in PROGRAMS and len(words) > 1 and not words[1].startswith(("…", ".")):
            # The usage lines of the reference have marks of their own, and are made from the parser anyhow.
            if "[OPTIONS]" not in words:
                parse(shlex.split(span.replace("'", "")), lenient=True)
        elif re.fullmatch(r"--[a-z][\w-]*", words[0]):
            option = words[0]
            assert option in known | FOREIGN_OPTIONS or any(option in text for text in scripts()), f"{page}: {span}"


def every(option: Any) -> list[str]:
    return [*option.opts, *option.secondary_opts]


@cache
def scripts() -> list[str]:
    """The sources that declare options with argparse."""
    folders = ("scripts", "kernels", "validation_ch7", "kaggle_manager/local_kaggle")
    texts = [path.read_text(encoding="utf-8") for name in folders for path in (ROOT / name).rglob("*.py")]
    return [text for text in texts if "ArgumentParser" in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page}: {target}; there are {sorted(anchors(there))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of_code_can_be_read_by_what_they_are_for(page: Path) -> None:
    for text in blocks(page, "toml"):
        tomllib.loads(text)
    if page.name != "api.md":  # its blocks are signatures; those of its head are run below
        for text in blocks(page, "python"):
            compile(text, str(page), "exec")
            exec("\n".join(line for line in text.splitlines() if line.startswith("from ")), {})


def test_the_messages_of_the_troubleshooting_are_those_of_the_code() -> None:
    page = (ROOT / "docs/CHECKPOINT_SYSTEM.md").read_text(encoding="utf-8").split("## Troubleshooting")[1]
    folders = ("kaggle_manager", "kernels")
    code = "".join(path.read_text(encoding="utf-8") for name in folders for path in (ROOT / name).rglob("*.py"))
    shown = [span for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for span in re.findall(r"`(.+?)`", row)]
    assert len(shown) > 15
    for span in shown:
        for part in (part.strip(" ,:") for part in span.split("…")):
            assert part in code, span


# --- what is run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder with a tree that was trained, a copy, two runs and a report; nobody's credentials or settings."""
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "KM_"))]:
        monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "KM_WORKDIR"):
        monkeypatch.setenv(name, str(tmp_path / "work"))
    monkeypatch.setenv("KM_PROJECT", str(ROOT))
    config = config_in(tmp_path / "work")
    identity = current_identity(config)
    plant(config.tree, (44_000, 45_000), identity=identity)
    quick = config_in(tmp_path / "work", quick=True)
    plant(quick.tree, identity=identity)
    plant(config.archive / "older", (1, 2), identity=identity)
    report_folder(config).mkdir(parents=True)
    (report_folder(config) / "report.txt").write_text("a report")
    with contextlib.closing(Journal(config.journal)) as journal:
        for run_id in ("54e9ec" + "0" * 26, "8a01bc" + "0" * 26):
            names = (run_id, config.section.name, config.scenario_name, 9, False, str(config.tree))
            journal.add_run(RunRow(*names, "local", "local", "slug", "2026-11-22T03:00:00+00:00"))
    for line in (["export", config.section.name, str(tmp_path / "bucket")], ["checkpoints", "backup"]):
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.output
    return tmp_path


def pages_to_run() -> list[Path]:
    return [page for page in PAGES if any(map(can_be_run, commands(page)))]


def can_be_run(written: Written) -> bool:
    if written.words[0] not in PROGRAMS:
        return False
    name = " ".join(parse(written.words))
    serves = name == "dashboard" and "--html" not in written.words
    return name in RUN and not PARSED_WITH & set(written.words) and not serves


@pytest.mark.parametrize("page", pages_to_run(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_tells_to_type_works_in_its_order(page: Path, world: Path) -> None:
    places = {name: str(world / place) for name, place in STAND_INS.items()}
    for written in filter(can_be_run, commands(page)):
        words = [places.get(word, word) for word in written.words[1:]]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{written}\n{done.output}"
        assert done.exception is None


def test_enough_is_run() -> None:
    """Or the choice above has been made too narrow."""
    run = [each for page in PAGES for each in commands(page) if each.words[0] in PROGRAMS and can_be_run(each)]
    names = {" ".join(parse(each.words)) for each in run}
    assert names >= RUN - {"local-kaggle stop"}, RUN - names
    assert len(run) > 30


def test_the_programs_of_the_api_page_run(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first only as far as it trains nothing."""
    trains, looks = list(blocks(ROOT / "docs/api.md", "python"))[:2]
    monkeypatch.chdir(world)
    (world / "work").rename(world / "runs")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(looks, "api.md", "exec"), {})
    step, model = said.getvalue().split()
    assert step == "2"
    assert Path(model).is_relative_to(world / "runs")
    session = SimpleNamespace(**dict.fromkeys(field.name for field in fields(SessionSummary)))
    report = SimpleNamespace(**dict.fromkeys(field.name for field in fields(RunReport)))
    report.sessions = (session,)
    asked = []

    def train(manager: ValidationKaggleManager, section: str, *, quick: bool) -> SimpleNamespace:
        asked.append((section, quick))
        return report

    monkeypatch.setattr(ValidationKaggleManager, "run_validation_section", train)
    with contextlib.redirect_stdout(said):
        exec(compile(trains, "api.md", "exec"), {})
    assert asked == [("section_7_6_rl_performance", True)]
    assert said.getvalue().endswith("None None [None]\n")
