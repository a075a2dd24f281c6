"""What a user reads first: one line for each command under the title it belongs to, and examples to copy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from make_cli_reference import Command, commands, name_of, passed_on
from typer.testing import CliRunner

from kaggle_manager import __version__, cli
from kaggle_manager.cli.commands import PANELS, app
from kaggle_manager.cli.selection import as_command

COMMANDS = list(commands())
# What fits beside the longest name in a terminal of 80 columns.
LONGEST_LINE = 60


def asked(*line: str, columns: int = 80) -> Any:
    return CliRunner().invoke(app, [*line], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})


@pytest.mark.parametrize("group", ["", "checkpoints", "local-kaggle", "selftest", "notify"])
def test_each_command_has_one_line_that_is_not_cut(group: str) -> None:
    shown = asked(*group.split(), "--help").stdout.splitlines()
    whole = {each.name: each.line for each in COMMANDS if each.name.rpartition(" ")[0] == group}
    assert whole
    for name, line in whole.items():
        assert len(line) <= LONGEST_LINE, f"{name}: {line}"
        assert any(re.fullmatch(rf"  {name.split()[-1]} +{re.escape(line)}", text) for text in shown), name
    assert not any(text.rstrip().endswith("...") for text in shown if "[ARGS]..." not in text)


def test_commands_stand_under_four_titles_in_the_order_in_which_a_user_needs_them() -> None:
    shown = asked("--help").stdout
    places = [shown.index(f"\n{title}:\n") for title in ("Everyday", "Checkpoints", "Platforms", "Tools")]
    assert places == sorted(places)
    assert [*PANELS] == ["Everyday", "Checkpoints", "Platforms", "Tools"]
    assert shown.index("  run ") < places[1] < shown.index("  checkpoints ") < places[2] < shown.index("  clean ")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_examples_can_be_copied_from_the_help(command: Command) -> None:
    shown = asked(*command.name.split(), "--help").stdout.splitlines()
    assert command.examples
    for example in command.examples:
        assert f"    {example}" in shown, "on a line of its own, however long"
        assert not re.search(r"[<>…]|\.\.\.", example), f"{example}: a shell takes that for something else"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_values_and_arguments_have_the_names_of_the_reference(command: Command) -> None:
    shown = asked(*command.name.split(), "--help", columns=200).stdout
    usage = shown.partition("\n")[0]
    assert "{" not in usage
    assert not re.search(r"^  \S.*<(str|int|float|path|int range|float range|list)", shown, re.MULTILINE)
    for argument in command.arguments:
        assert name_of(argument) in usage


def test_the_help_shows_the_options_that_the_self_test_is_passed() -> None:
    (command,) = [each for each in COMMANDS if each.name == "selftest exactness"]
    shown = asked("selftest", "exactness", "--help").stdout
    for action in passed_on(command):
        assert f"  {action.option_strings[0]} " in shown
        default = action.default if isinstance(action.default, list) else [action.default]
        assert f"[default: {' '.join(map(str, default))}]" in shown


def test_h_and_version_and_nothing_at_all() -> None:
    assert asked("-h").stdout == asked("--help").stdout == asked().stdout
    assert asked("run", "-h").stdout == asked("run", "--help").stdout
    assert asked("checkpoints").stdout == asked("checkpoints", "-h").stdout
    assert asked("--version").stdout == f"{__version__}\n"
    assert {asked(*line).exit_code for line in (["-h"], [], ["checkpoints"], ["--version"])} == {0}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no-such-command", "No such command"),
        ("rnu", "Did you mean"),
        ("run --no-such-option", "No such option"),
        ("export", "Missing argument"),
        ("checkpoints no-such-command", "No such command"),
        ("run --seeds many", "valid integer"),
        ("status --watch", "requires an argument"),
        ("run no_such_section", "There is no section"),
        ("run --seeds 3 --seed 1", "exclude each other"),
        ("run --max-sessions 3", "needs --seeds"),
        ("init x --resumable", "needs --script"),
        ("checkpoints prune --kind foo", "is not a kind of copy"),
        ("report section_7_6_rl_performance --lang de", "invalid choice: 'de'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_style(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(line.split())
    shown = capsys.readouterr()
    first, *rest = shown.err.splitlines()
    assert (left.value.code, shown.out) == (2, "")
    assert first.startswith("error: ")
    assert words in shown.err
    assert [text.partition(": ")[0] for text in rest][-1] == "Next"
    assert "Usage" not in shown.err


def test_the_shell_completes_the_sections_of_the_project() -> None:
    line = {"COMP_WORDS": "km run section_7", "COMP_CWORD": "2"}
    environment = {"_KAGGLE_MANAGER_COMPLETE": "complete_bash", **line}
    done = CliRunner().invoke(app, [], prog_name="kaggle-manager", env=environment)
    assert done.stdout.split() == ["section_7_6_rl_performance"]


def test_an_example_of_a_docstring_is_a_line_of_the_help_whatever_its_length() -> None:
    def look() -> None:
        """Look.

        Examples:

          kaggle-manager look

          kaggle-manager look --again
        """

    assert as_command(look).__doc__ == (
        "Look.\n\nExamples:\n\n\b\n  kaggle-manager look\n  kaggle-manager look --again"
    )
