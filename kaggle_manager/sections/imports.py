"""Which files of a project a module is made of, as its text says: its imports are followed, and nothing is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from kaggle_manager.sections import notebook

PROGRAM = __name__.partition(".")[0]


def imported_files(root: Path, module: str) -> list[str]:
    """Files below `root` that importing `module` from there may load, relative to it, `module`'s own first.

    Imports count wherever they stand, in a function as well. What is not a file of the project is left out, and so is
    this program where it lies in one: it is no source of an experiment, and reading all of it takes a second.
    """
    found: dict[str, None] = {}
    todo = [module]
    while todo:
        parts = todo.pop(0).split(".")
        if parts[0] == PROGRAM:
            continue
        for number in range(len(parts), 0, -1):  # a package is run before what is in it
            name = ".".join(parts[:number])
            file = _file_of(root, name)
            if file is not None and file not in found:
                found[file] = None
                package = name if file.endswith("/__init__.py") else name.rpartition(".")[0]
                todo += _imports(root / file, package)
    return list(found)


def imports_of(file: Path) -> list[str]:
    """Modules that a file imports by their full names, wherever it does; what it takes from them may be among them."""
    return [name for name in _imports(file, "") if name]


def _file_of(root: Path, module: str) -> str | None:
    place = module.replace(".", "/")
    return next((file for file in (f"{place}/__init__.py", f"{place}.py") if (root / file).is_file()), None)


def _imports(file: Path, package: str) -> Iterator[str]:
    """Modules, and what may be one: `from robots import arm` imports `robots`, and perhaps `robots.arm`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(notebook.source_of(file))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # that is said where it is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
