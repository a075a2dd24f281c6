#!/usr/bin/env python3
"""docs/cli.md, made from the commands themselves: their purposes, options, defaults, variables, codes and examples.

python scripts/make_cli_reference.py              # writes docs/cli.md
python scripts/make_cli_reference.py --check      # ends with 1 when it is not what the code says
"""

from __future__ import annotations

import argparse
import enum
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from kaggle_manager import errors
from kaggle_manager.cli.commands import PANELS, app

PAGE = Path(__file__).resolve().parents[1] / "docs/cli.md"
sys.path.insert(0, str(PAGE.parents[1]))  # this repository's own sections, one of which has a report
PROGRAM = "km"
# Commands that hand their options on to a program of their own, which has a `_parser()`.
PASSED_ON = {
    "report": "validation_ch7.section_7_6_rl_performance.report.__main__",
    "selftest exactness": "kaggle_manager.trainer.sb3.selftest",
}
PLACEHOLDERS = {int: "N", float: "N", str: "TEXT", Path: "PATH"}
INTRODUCTION = """\
# Command line

`km` and `kaggle-manager` are the same program. This page is made from the code by
`python scripts/make_cli_reference.py`; a test fails when it is not what the code says. `-h` or `--help` after any
command shows the same, `--version` the version, and `--install-completion` lets the shell complete commands, options
and sections.

* With `--json` there is one document on stdout ([its fields](json.md)) and everything else is on stderr.
* A setting comes from its option, else from its variable, else from `section.toml`, else from the default;
  `km doctor` shows which.
* `SECTION` is a folder in `sections/` of the nearest project upwards from where the command is called, or of the one
  that `KM_PROJECT` names ([where a project is](own_environment.md#where-a-project-is)). Where the usage line shows
  `[SECTION]`, it may be left out in a project with one section. Without a project, a command that needs one ends with
  2, says how to make one, and writes nothing.
* Colours and the live line are for terminals: in a pipe, with `NO_COLOR` or `TERM=dumb`, output is plain lines.
"""
VARIABLES = """\
## Variables

| variable | says |
|---|---|
| `KM_SCENARIO`, `KM_SESSION_LIMIT`, `KM_QUOTA_PER_WEEK`, `KM_PLATFORM`, `KM_WORKDIR` | the options of the same name |
| `KM_TIMESTEPS` | the option of the same name; ignored with `--quick` |
| `KM_PROJECT` | the folder of the project, for commands called from elsewhere |
| `KM_KEEP_GB` | room for the kept copies of one training tree, in GB; default 20 |
| `KM_NOTIFY`, `KM_NOTIFY_HOOK`, `KM_NOTIFY_ON` | [messages about runs](scheduling.md#notifications) |
| `KM_SLURM_PARTITION`, `KM_SLURM_ACCOUNT`, ... | the keys of `[platform.slurm]` ([Slurm](slurm.md)) |
| `KAGGLE_API_TOKEN` | an API token; else `KAGGLE_USERNAME` and `KAGGLE_KEY`, else the files of `KAGGLE_CONFIG_DIR` |
"""


@dataclass(frozen=True)
class Command:
    """A command as a person calls it; `node` is typer's."""

    name: str
    node: Any
    panel: str

    @property
    def line(self) -> str:
        """What the help of its group says in one line."""
        return str(self.node.get_short_help_str(limit=1_000))

    @property
    def purpose(self) -> str:
        return inspect.cleandoc(self.node.callback.__doc__).split("\n\nExample")[0]

    @property
    def examples(self) -> list[str]:
        _, _, after = inspect.cleandoc(self.node.callback.__doc__).partition("\n\nExample")
        lines = after.partition(":\n")[2].splitlines()
        return [line.strip() for line in lines if line.strip() not in ("", "\b")]

    @property
    def options(self) -> list[Any]:
        return [parameter for parameter in self.node.params if parameter.opts[0].startswith("-")]

    @property
    def arguments(self) -> list[Any]:
        return [parameter for parameter in self.node.params if not parameter.opts[0].startswith("-")]


def commands(node: Any = None, name: str = "", panel: str = "") -> Iterator[Command]:
    """Every command there is, those of a group after the others."""
    node = typer.main.get_command(app) if node is None else node
    below = getattr(node, "commands", None)
    if below is None:
        yield Command(name, node, panel)
    for each, child in (below or {}).items():
        yield from commands(child, f"{name} {each}".strip(), panel or child.rich_help_panel)


def page() -> str:
    """The whole page."""
    found = list(commands())
    parts = [INTRODUCTION, exit_codes(), VARIABLES, "## Commands\n", *(panel(title, found) for title in PANELS)]
    return "\n".join([*parts, *map(section, found)])


def panel(title: str, found: list[Command]) -> str:
    """The commands of one panel of `--help`, with what each is for."""
    inside = [each for each in found if each.panel == title]
    rows = [f"| [`{each.name}`](#{each.name.replace(' ', '-')}) | {each.line} |" for each in inside]
    return "\n".join([f"| {title} | |", "|---|---|", *rows, ""])


def exit_codes() -> str:
    """The codes, each with the errors that end a command with it."""
    rows: dict[int, list[str]] = {0: ["Done; of `tick`: the target is reached."]}
    for error in errors.KaggleManagerError.__subclasses__():
        rows.setdefault(error.exit_code, []).append((error.__doc__ or "").splitlines()[0])
    rows[2].append("Also an option that does not exist.")
    lines = [f"| {code} | {' '.join(said)} |" for code, said in sorted(rows.items())]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *lines, ""])


def section(command: Command) -> str:
    """One command."""
    usage = [PROGRAM, command.name, *(argument_usage(each) for each in command.arguments), "[OPTIONS]"]
    parts = [f"### {command.name}", "", unwrapped(command.purpose), "", f"`{' '.join(usage)}`", ""]
    rows = [argument_row(command, each) for each in command.arguments]
    rows += [option_row(command, each) for each in command.options]
    rows += [passed_on_row(each) for each in passed_on(command)]
    if rows:
        parts += ["| option | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join([*parts, "```bash", *command.examples, "```", ""])


def unwrapped(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def argument_usage(argument: Any) -> str:
    return name_of(argument) if argument.required else f"[{name_of(argument)}]"


def name_of(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def argument_row(command: Command, argument: Any) -> str:
    return row(f"`{name_of(argument)}`", argument.help, default_of(argument))


def option_row(command: Command, option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {placeholder(command, option)}"
    # What the help says by hand of its variable and its default goes where these are.
    by_hand = re.search(r" \[(?:env var: (\w+))?(?:; )?(?:default: (.*))?\]$", option.help)
    help_text = option.help[: by_hand.start()] if by_hand else option.help
    variable, default = by_hand.groups() if by_hand else (None, None)
    variable = option.envvar or variable
    return row(f"`{names}{value}`", help_text + f" `{variable}`" * bool(variable), default or default_of(option))


def passed_on(command: Command) -> list[argparse.Action]:
    if command.name not in PASSED_ON:
        return []
    parser = importlib.import_module(PASSED_ON[command.name])._parser()
    return [action for action in parser._actions if action.dest != "help"]


def passed_on_row(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {'|'.join(map(str, action.choices)) if action.choices else 'TEXT'}"
    value = f" {action.metavar}" if isinstance(action.metavar, str) else value
    help_text, _, by_hand = re.sub(r"[;.] [Dd]efault: ", "; default: ", action.help or "").partition("; default: ")
    if not by_hand and help_text.startswith("default: "):
        help_text, by_hand = "", help_text.removeprefix("default: ")
    shown = by_hand or ("" if action.default is None or action.default is False else str(action.default))
    return row(f"`{', '.join(action.option_strings)}{value}{' ...' if action.nargs == '+' else ''}`", help_text, shown)


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def default_of(parameter: Any) -> str:
    if parameter.required:
        return "must be given"
    if isinstance(parameter.show_default, str):  # found out when the command runs; the help has words for it
        return parameter.show_default
    if parameter.default is None or parameter.default is False or parameter.default == "":
        return ""
    if parameter.default is True:
        return f"`{parameter.opts[0]}`"
    default = parameter.default
    return f"`{default.value if isinstance(default, enum.Enum) else default}`"


def annotation(command: Command, parameter: Any) -> Any:
    """The Python type of a parameter, without its `None`."""
    given = typing.get_type_hints(command.node.callback)[parameter.name]
    if isinstance(given, types.UnionType):
        given = next(each for each in typing.get_args(given) if each is not types.NoneType)
    return given


def is_choice(command: Command, parameter: Any) -> bool:
    given = annotation(command, parameter)
    return inspect.isclass(given) and issubclass(given, enum.Enum)


def placeholder(command: Command, parameter: Any) -> str:
    if is_choice(command, parameter):
        return "|".join(each.value for each in annotation(command, parameter))
    if parameter.metavar:
        return str(parameter.metavar)
    given = annotation(command, parameter)
    parts = typing.get_args(given) or (given,)
    return " ".join(PLACEHOLDERS[each] for each in parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is stale")
    options = parser.parse_args()
    if options.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
