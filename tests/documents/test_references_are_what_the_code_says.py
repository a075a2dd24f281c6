"""The references are made from the code, and are complete: every command, option, argument, exit code and name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import make_api_reference
import make_cli_reference
import pytest
import typer

from kaggle_manager import errors
from kaggle_manager.cli.commands import app

COMMANDS = {command.name: command for command in make_cli_reference.commands()}


def every_error(error: type[errors.KaggleManagerError] = errors.KaggleManagerError) -> Iterator[type]:
    yield error
    for each in error.__subclasses__():
        yield from every_error(each)


@pytest.mark.parametrize("reference", [make_cli_reference, make_api_reference], ids=lambda module: module.__name__)
def test_the_page_is_what_the_code_says_now(reference: object) -> None:
    page, written = reference.page(), reference.PAGE.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert written == page, f"make it again: python scripts/{reference.__name__}.py"  # type: ignore[attr-defined]


def test_no_command_is_left_out() -> None:
    def count(node: object) -> int:
        below = getattr(node, "commands", None)
        own = below is None or node.invoke_without_command  # type: ignore[attr-defined]
        return own + sum(count(child) for child in (below or {}).values())

    assert len(COMMANDS) == count(typer.main.get_command(app)) > 30


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_its_purpose_first_has_examples_and_explains_every_option(name: str) -> None:
    command = COMMANDS[name]
    first = command.purpose.split("\n\n")[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert not first.lower().startswith(("usage", "example"))
    assert command.examples, "an example"
    assert all(name in example for example in command.examples[:1])
    text = make_cli_reference.section(command)
    for option in command.options:
        assert option.help, option.name
        assert all(f"`{spelling}" in text or f", {spelling}" in text for spelling in option.opts), option.name
    for argument in command.arguments:
        assert argument.help, argument.name
        assert f"`{argument.name.upper()}`" in text
    for action in make_cli_reference.passed_on(command):
        assert action.help, action.dest
        assert action.option_strings[0] in text


def test_every_exit_code_an_error_has_is_in_the_table() -> None:
    table = make_cli_reference.exit_codes()
    for error in every_error():
        assert f"\n| {error.exit_code} |" in table, error
    readme = (make_cli_reference.PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    codes = {error.exit_code for error in every_error()} | {0}
    (line,) = [part for part in readme.split("\n\n") if part.startswith("0 done")]
    assert {int(part.split()[0]) for part in line.replace("\n", " ").split(" · ")} == codes


def test_every_public_name_of_the_reference_is_explained() -> None:
    for modules in make_api_reference.PARTS.values():
        for module, names in modules.items():
            for name in names:
                thing = getattr(__import__(module, fromlist=[name]), name)
                assert inspect.getdoc(thing), f"{module}.{name}"
