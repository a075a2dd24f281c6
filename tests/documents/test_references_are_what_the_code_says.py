"""The references are made from the code, and are complete: every command, option, argument, exit code and name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import make_api_reference
import make_cli_reference
import make_script_examples
import pytest
import typer

import kaggle_manager
from kaggle_manager import errors
from kaggle_manager.cli.commands import app

COMMANDS = {command.name: command for command in make_cli_reference.commands()}
# `name:` or `name, name:` of an argument or attribute in a docstring.
ITEMS = re.compile(r"^    (\w+(?:, \w+)*): ", re.MULTILINE)


def every_error(error: type[errors.KaggleManagerError] = errors.KaggleManagerError) -> Iterator[type]:
    yield error
    for each in error.__subclasses__():
        yield from every_error(each)


@pytest.mark.parametrize(
    "reference", [make_cli_reference, make_api_reference, make_script_examples], ids=lambda module: module.__name__
)
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
        assert f"`{make_cli_reference.name_of(argument)}`" in text
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


def test_the_api_page_lists_exactly_the_public_names() -> None:
    page = make_api_reference.page()
    listed = set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) - {"Errors"}
    listed |= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == set(kaggle_manager.__all__) - {"__version__"}


def test_every_parameter_and_attribute_of_the_api_is_explained() -> None:
    missing = []
    for name in set(kaggle_manager.__all__) - {"__version__"}:
        thing = getattr(kaggle_manager, name)
        members = vars(thing).items() if inspect.isclass(thing) else ()
        methods = [each for member, each in members if inspect.isfunction(each) and not member.startswith("_")]
        for each in [thing, *methods]:
            explained = {word for line in ITEMS.findall(inspect.getdoc(each) or "") for word in line.split(", ")}
            missing += [f"{each.__qualname__}: {word}" for word in explicit_parameters(each) - explained]
    assert missing == []


def explicit_parameters(thing: object) -> set[str]:
    """What the docstring of `thing` has to explain; an error that carries no more than its base explains nothing."""
    if isinstance(thing, type) and issubclass(thing, errors.KaggleManagerError) and "__init__" not in vars(thing):
        return set()
    given = inspect.signature(thing).parameters.values()  # type: ignore[arg-type]
    own = {each.name for each in given if each.kind is not each.VAR_KEYWORD} - {"self"}
    return own - ({"safe", "next_step"} if thing is not errors.KaggleManagerError else set())
