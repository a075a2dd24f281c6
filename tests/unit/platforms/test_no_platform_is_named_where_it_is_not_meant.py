"""What a user reads on any platform names none: Kaggle is named where it is chosen, and in what only it has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "kaggle_manager"
ROOMS = ("console", "notify", "orchestrator", "platforms/slurm", "protocol", "runs", "sessions", "status", "trees")
# The package's own name, its class and its command are called what they are called.
OWN = re.compile(r"kaggle[_-]manager|KaggleManager|KAGGLE_(?:WORKING_DIR|INPUT_DIR|CONTAINER_NAME)")
# Where Kaggle is meant: who chooses it, the Kaggle of this machine, and what a session has of Kaggle's image and data.
MEANT = {
    "orchestrator/wheels.py": "the Kaggle of this machine",
    "sessions/bundle.py": "the name of a file with a key, which never travels",
    "sessions/connection.py": "where platforms are chosen",
    "sessions/inputs.py": "data of Kaggle",
    "sessions/known_before.py": "what Kaggle's image has",
    "sessions/missing.py": "the default folder of inputs",
    "sessions/wheels.py": "what Kaggle's image has",
}


def texts(path: Path) -> Iterator[str]:
    """Every text in a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    told = {id(node.body[0].value) for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_texts_of_the_manager_name_kaggle_only_where_it_is_meant() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        if any("kaggle" in OWN.sub("", text).lower() for text in texts(path))
    }
    assert found == MEANT.keys(), "say it of `the platform`, or list it here"


def test_the_manager_imports_a_platform_by_name_only_where_it_is_chosen() -> None:
    rooms = ("console", "notify", "orchestrator", "protocol", "runs", "sessions", "status", "trees")
    named = re.compile(r"^ *from kaggle_manager\.platforms\.(?:kaggle|slurm)", re.MULTILINE)
    found = {
        path.relative_to(PACKAGE).as_posix()
        for room in rooms
        for path in (PACKAGE / room).rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"sessions/connection.py"}
