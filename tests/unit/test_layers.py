"""Who may import whom: the rooms of docs/architecture.md, as one ordered list."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kaggle_manager
from kaggle_manager.sessions.bundle import RUNTIME

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kaggle_manager"

# A room imports only what is on a lower layer. The lowest layer first; a module at the root is a room of its own.
# The package itself has no layer: it names what is public on every layer, imports it on use, and is for users alone.
LAYERS = (
    ("errors",),
    ("system",),
    ("console", "notify"),
    ("runs", "sections", "checkpoints", "platforms", "local_kaggle"),
    ("config", "protocol"),
    ("sessions", "trees", "trainer"),
    ("status",),
    ("orchestrator", "integrations"),
    ("sweeps",),
    ("dashboard",),
    ("cli",),
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
# Libraries of training. The orchestrator installs and starts without them.
HEAVY = ("torch", "stable_baselines3", "gymnasium", "libsumo", "numpy")
# Modules outside `trainer` that may import numpy: the rows of a replay buffer.
WITH_NUMPY = ("checkpoints.replay_capture", "checkpoints.replay_codec")


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name without `kaggle_manager.`; the package itself is ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found[".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip(".")] = path
    return found


@cache
def imports_of(path: Path, *, at_import: bool = False) -> frozenset[str]:
    """Every module a file names in an import statement; with `at_import` only those that importing it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _outside_functions(tree) if at_import else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            own = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in own if name.removeprefix("kaggle_manager.") in modules()}
            found |= known | ({node.module} if known != own else set())
    return frozenset(found)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not is_for_types:
            yield child
            yield from _outside_functions(child)


def own_imports(name: str, *, at_import: bool = False) -> set[str]:
    """The modules of this package that one of them imports."""
    found = imports_of(modules()[name], at_import=at_import)
    return {each.removeprefix("kaggle_manager").strip(".") for each in found if each.startswith("kaggle_manager")}


def room_of(name: str) -> str:
    return name.partition(".")[0]


def test_at_the_root_are_folders_and_three_modules() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "errors.py", "config.py", "py.typed"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders <= set(LAYER_OF), "each has a place in the list"


def test_a_room_imports_only_what_is_below_it() -> None:
    upward = [
        f"{name} imports {other}"
        for name in modules()
        for other in own_imports(name)
        if name and other and room_of(name) != room_of(other) and LAYER_OF[room_of(other)] >= LAYER_OF[room_of(name)]
    ]
    assert upward == []


def test_no_circle_of_modules() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(own_imports(name) - {""}):  # those within functions, too
                visit(other, (*path, name))
            done.add(name)

    for name in modules():
        if name:
            visit(name, ())


def test_what_travels_into_a_session_imports_nothing_that_stays_at_home() -> None:
    travelling = {
        name
        for name, path in modules().items()
        if any(path.is_relative_to(ROOT / entry) for entry in RUNTIME if not entry.endswith("/__init__.py"))
        or path.relative_to(ROOT).as_posix() in RUNTIME
    }
    assert {"", "trainer.main"} <= travelling
    assert own_imports("", at_import=True) == set()
    rooms = travelling - {""}
    assert [f"{name} imports {other}" for name in rooms for other in own_imports(name) - travelling] == []


def test_no_module_takes_a_name_from_the_public_api() -> None:
    """It would reach any layer that way, and only where the whole package is installed."""
    offenders = [
        f"{name} imports {alias.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "kaggle_manager"
        for alias in node.names
        if alias.name in kaggle_manager.__all__ and alias.name != "__version__"
    ]
    assert offenders == []


def test_only_the_trainer_needs_a_training_library() -> None:
    offenders = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports_of(path)
        if room_of(name) != "trainer" and other.partition(".")[0] in HEAVY and name not in WITH_NUMPY
    ]
    assert offenders == []


@pytest.mark.parametrize("room", ["checkpoints", "errors", "system"])
def test_a_checkpoint_is_read_with_the_standard_library(room: str) -> None:
    for name, path in modules().items():
        if room_of(name) == room:
            outside = {each.partition(".")[0] for each in imports_of(path)} - {"kaggle_manager"}
            allowed = set(sys.stdlib_module_names) | ({"numpy"} if name in WITH_NUMPY else set())
            assert outside <= allowed, name


@pytest.mark.parametrize("name", ["lifecycle", "retry_policy", "budget", "slots"])
def test_a_decision_has_no_input_or_output(name: str) -> None:
    allowed = {"__future__", "collections", "dataclasses", "enum", "itertools", "statistics", "typing"}
    found = imports_of(modules()[f"runs.{name}"])
    own = {f"kaggle_manager.runs.{other}" for other in ("lifecycle", "retry_policy", "budget")}
    own.add("kaggle_manager.system.accelerators")  # names and figures
    assert {each for each in found if each.partition(".")[0] not in allowed} <= own


@pytest.mark.parametrize(
    ("room", "may_import"),
    [
        ("local_kaggle", {"errors", "local_kaggle", "system"}),
        ("platforms", {"errors", "platforms", "system"}),
        ("checkpoints", {"errors", "system", "checkpoints"}),
        ("trainer", {"errors", "system", "protocol", "sections", "checkpoints", "trainer"}),
    ],
)
def test_what_stands_alone_knows_nothing_of_the_manager(room: str, may_import: set[str]) -> None:
    for name in modules():
        if room_of(name) == room:
            assert {room_of(other) for other in own_imports(name)} - {""} <= may_import, name


def test_what_every_trainer_stands_on_knows_none_of_them() -> None:
    kinds = {"runtime": {"sb3", "script"}, "script": {"sb3"}, "sb3": {"script"}}
    offenders = [
        f"{name} imports {other}"
        for name in modules()
        for other in own_imports(name)
        for kind, others in kinds.items()
        if name.startswith(f"trainer.{kind}.") and any(other.startswith(f"trainer.{each}") for each in others)
    ]
    assert offenders == []


def test_a_session_imports_no_training_library_before_it_knows_what_it_trains() -> None:
    def reached(name: str, seen: set[str]) -> set[str]:
        for other in own_imports(name, at_import=True) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    needed = reached("trainer.main", {"trainer.main", "trainer"})
    heavy = {each for name in needed for each in imports_of(modules()[name], at_import=True) if each in HEAVY}
    assert heavy <= {"numpy"}
    assert not any(name.startswith("trainer.sb3") for name in needed)


def test_the_project_of_this_repository_uses_what_travels_and_what_is_public() -> None:
    allowed = ("errors", "system", "config", "protocol", "sections", "checkpoints", "trainer", "runs")
    for path in sorted((ROOT / "validation_ch7").rglob("*.py")):
        for other in imports_of(path):
            if other.startswith("kaggle_manager."):
                assert other.split(".")[1] in allowed, f"{path.relative_to(ROOT)} imports {other}"
