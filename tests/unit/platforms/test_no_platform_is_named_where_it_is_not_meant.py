"""What a user meets on any platform names none: Kaggle is named where it is chosen, and in what only it has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "kaggle_manager"
# The two rooms that are Kaggle's.
OF_KAGGLE = ("platforms/kaggle/", "local_kaggle/")
# The program's own name, its class and its state folder are called what they are called.
OWN = re.compile(r"kaggle[ _-]?manager", re.IGNORECASE)
# Where Kaggle is meant: who chooses it, the local Kaggle, and what a session has of Kaggle's image and data.
MEANT = {
    "cli/clean.py": "platforms that no section says anything of",
    "cli/commands.py": "the command `local-kaggle`",
    "cli/common.py": "the values of `--platform`",
    "cli/doctor/account.py": "the account at Kaggle, looked at where runs go there",
    "cli/doctor/assumptions.py": "`doctor --kaggle`",
    "cli/doctor/command.py": "`doctor --kaggle`",
    "cli/doctor/examine.py": "what is looked at where runs go to Kaggle",
    "cli/doctor/machine.py": "its official client, its machines, and the local Kaggle",
    "cli/doctor/secret_files.py": "the name of a file with a key",
    "cli/local_kaggle.py": "the command `local-kaggle`",
    "cli/schedule/github.py": "its token, as a secret of a repository",
    "cli/schedule/job.py": "its credentials, which a scheduler does not see",
    "config.py": "the values of `--platform`",
    "integrations/service_errors.py": "the names of its keys, which are never sent",
    "orchestrator/wheels.py": "the local Kaggle",
    "sections/inputs.py": "the folder of inputs of the local Kaggle",
    "sessions/bundle.py": "the name of a file with a key, which never travels",
    "sessions/connection.py": "where platforms are chosen",
    "sessions/missing.py": "a path of its sessions, in what a session has said",
    "sessions/wheels.py": "what Kaggle's image has",
    "system/accelerators.py": "its machines",
}


def names_and_texts(path: Path) -> Iterator[str]:
    """Every text of a module, docstrings included, and every name in it but those of the modules it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def says_kaggle(text: str) -> bool:
    return "kaggle" in OWN.sub("", text).lower()


def shared() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.is_file() and path.suffix != ".pyc" and not name.startswith(OF_KAGGLE) and "__pycache__" not in name:
            yield name, path


def test_kaggle_is_named_only_where_it_is_meant() -> None:
    found = {name for name, path in shared() if path.suffix == ".py" and any(map(says_kaggle, names_and_texts(path)))}
    assert found == MEANT.keys(), "say it of `the platform`, or list it here"


def test_files_that_are_no_modules_name_no_platform() -> None:
    others = {name: path.read_text(encoding="utf-8") for name, path in shared() if path.suffix != ".py"}
    assert others, "templates and the like"
    assert [name for name, text in others.items() if says_kaggle(text)] == []


def test_the_manager_imports_a_platform_by_name_only_where_it_is_chosen() -> None:
    rooms = ("console", "notify", "orchestrator", "protocol", "runs", "sessions", "status", "trees", "dashboard")
    named = re.compile(r"^ *from kaggle_manager\.platforms\.(?:kaggle|slurm)", re.MULTILINE)
    found = {
        name
        for name, path in shared()
        if name.startswith(tuple(f"{room}/" for room in rooms)) and named.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"sessions/connection.py"}
