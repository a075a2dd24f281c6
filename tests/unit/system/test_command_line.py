"""Each command that a message names runs when it is typed, and is about the tree that the message is about."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_parser import leaf_commands, parsed
from documents import ROOT
from small_project import SCENARIO, SECTION, make_project

from kaggle_manager.config import build_config
from kaggle_manager.system.command_line import WhichTree, command

PACKAGE = ROOT / "kaggle_manager"
COMMANDS = leaf_commands()
# What a command must be given beside its training tree.
GIVEN = {
    "adopt": ["0" * 32],
    "export": ["a folder"],
    "restore": ["--from", "a folder"],
    "publish": ["hf://me/model"],
    "schedule": ["cron"],
    "track": ["--to", "mlflow"],
    "checkpoints diff": ["latest", "best"],
    "checkpoints export-sb3": ["latest", "a folder"],
    "checkpoints import-sb3": ["model.zip"],
}
# Of a section as a whole: its options are not those of one tree, or are the section's own.
OF_A_SECTION = {"preflight", "report", "status", "history", "doctor", "sweep"}
ABOUT_A_TREE = sorted(
    name
    for name, leaf in COMMANDS.items()
    if name not in OF_A_SECTION and "section" in {parameter.name for parameter in leaf.params}
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_project(tmp_path / "a project")
    toml = folder / "sections" / SECTION / "section.toml"
    toml.write_text(
        toml.read_text() + f'\n[scenarios.another]\nextends = "{SCENARIO}"\nmodels = "data/another"\n'
        '[scenarios.another.quick]\nmodels = "data/another_quick"\n'
    )
    monkeypatch.chdir(folder)
    return folder


def test_there_are_commands_about_a_tree() -> None:
    assert {"run", "tick", "stop", "download", "logs", "forecast", "export", "restore", "adopt"} <= set(ABOUT_A_TREE)
    assert sum(name.startswith("checkpoints ") for name in ABOUT_A_TREE) >= 7


@pytest.mark.parametrize("name", ABOUT_A_TREE)
def test_every_command_about_a_tree_is_about_the_one_that_is_named(name: str, project: Path) -> None:
    """Scenario, seed, quick and folder, each alone and all together."""
    for which in (
        {},
        {"scenario": "another"},
        {"seed": 3},
        {"seed": 0},
        {"quick": True},
        {"workdir": project.parent / "else where"},
        {"scenario": "another", "seed": 3, "quick": True, "workdir": project.parent / "else where"},
    ):
        config = build_config(SECTION, **which, environ={})
        line = config.command(name, *GIVEN.get(name, []))
        found, values = parsed(shlex.split(line))
        assert found == name, line
        options = {key: values[key] for key in ("section", "scenario", "seed", "quick", "workdir")}
        assert build_config(**options, environ={}).tree == config.tree, line


@pytest.mark.parametrize("name", ["preflight", "report", "status", "history", "dashboard"])
def test_a_command_about_more_than_a_tree_is_named_with_what_it_takes(name: str, project: Path) -> None:
    which = WhichTree(SECTION, "another", seed=3, quick=True, workdir=project.parent / "else where")
    found, values = parsed(shlex.split(which.command(name)))
    assert found == name
    if name != "report":  # its options are its section's
        assert values["workdir"] == which.workdir


@pytest.mark.parametrize("words", [["doctor"], ["local-kaggle stop", "--root", "a b"], ["init", "NAME"]])
def test_a_command_about_no_tree_is_one_as_well(words: list[str]) -> None:
    assert parsed(shlex.split(command(*words)))[0] == words[0]


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every text in a module that is no docstring; what is computed in it is a blank."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part != node
    }
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)  # type: ignore[attr-defined]
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if id(node) in docs or id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else " " for part in node.values)
            yield node.lineno, "".join(map(str, parts))


def test_no_module_writes_a_command_by_hand() -> None:
    """So that each has the options of its tree: `command_line` alone puts them together."""
    groups = {name.split()[0] for name in COMMANDS}
    written = re.compile(rf"\b(?:kaggle-manager|km) (?:{'|'.join(map(re.escape, sorted(groups)))})\b")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip()[:80]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in strings_of(path)
        if written.search(text)
    ]
    assert found == []


def test_the_scan_sees_a_command_that_is_written_by_hand(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""km run a"""\nx = f"try: kaggle-manager {1} {2}"\ny = "km run a"\n')
    texts: list[Any] = [text for _, text in strings_of(module)]
    assert texts == ["try: kaggle-manager    ", "km run a"]
