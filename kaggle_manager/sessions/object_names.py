"""Whether an object that section.toml names is there, by the text of its module alone: nothing is imported.

It says nothing that it is not sure of: a module that makes names while it runs, or is no text, may have any.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Collection, Iterator
from pathlib import Path

from kaggle_manager.sections import notebook
from kaggle_manager.sections.hyperparameters import like
from kaggle_manager.sections.values import AN_OBJECT

MOST_LISTED = 8
_DYNAMIC = {"eval", "exec", "globals", "locals", "setattr", "vars"}
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


class _NotSure(Exception):
    """Only running it says what is in a module."""


class _NotThere(Exception):
    """There is no such module; its name, and those there are."""


def mistake(name: str, project: Path, travels: Collection[str], *, all_here: bool) -> str:
    """What is wrong with `module:Name`, and what is accepted, in words; '' where nothing is sure to be.

    Args:
        travels: files of the project that a session has; a module that is none of them is looked for where Python has
            its packages.
        all_here: this machine has every package that a session has pinned.
    """
    module, _, path = name.partition(":")
    wanted = path.partition(".")[0]
    looked = _Looked(project, travels)
    try:
        names = looked.names(module)
    except _NotSure:
        return ""
    except _NotThere as error:
        missing, known = error.args
        if "." not in missing and not all_here:
            return ""
        said, wanted, names = f"there is no module {missing}; there is", missing, known
    else:
        if wanted in names or looked.has_module(f"{module}.{wanted}"):
            return ""
        said, names = f"{module} has no {wanted}; it has", {each for each in names if not each.startswith("_")}
    return f"given {name!r}; accepted: {AN_OBJECT} torch.nn:ReLU; {_meant(said, wanted, names)}"


def _meant(said: str, name: str, known: Collection[str]) -> str:
    what, _, _ = said.partition(";")
    if close := like(name, known):
        return f"{what}; did you mean {close}?"
    return f"{said} {', '.join(sorted(known))}" if 0 < len(known) <= MOST_LISTED else what


class _Looked:
    """Modules as a session finds them: what travels first."""

    def __init__(self, project: Path, travels: Collection[str]) -> None:
        self._project, self._travels = project, travels
        self._begun: set[str] = set()

    def names(self, module: str) -> set[str]:
        """What has a name in a module.

        Raises:
            _NotSure, _NotThere: see there.
        """
        if module in self._begun:  # two that import each other
            return set()
        self._begun.add(module)
        file = self._file(module)
        try:
            tree = ast.parse(notebook.source_of(file))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            raise _NotSure from None  # that is said where it is run
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        found: set[str] = set()
        for node in ast.walk(tree):
            match node:
                case ast.Global(names=names):
                    found.update(names)
                case ast.Call(func=ast.Name(id=name)) if name in _DYNAMIC:
                    raise _NotSure
        for node in _of_module(tree):
            match node:
                case ast.FunctionDef(name="__getattr__"):
                    raise _NotSure
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.ImportFrom(names=[ast.alias(name="*")], level=level, module=base):
                    found |= self._of_star(package, level, base or "")
                case ast.alias(name=name, asname=other):
                    found.add(other or name.partition(".")[0])
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
        return found

    def has_module(self, module: str) -> bool:
        """Whether there may be such a module."""
        try:
            self._file(module)
        except _NotThere:
            return False
        except _NotSure:
            pass
        return True

    def _of_star(self, package: str, level: int, base: str) -> set[str]:
        parts = package.split(".")
        above = parts[: len(parts) - level + 1] if level else []
        try:
            return self.names(".".join([*above, *filter(None, [base])]))
        except _NotThere:
            raise _NotSure from None

    def _file(self, module: str) -> Path:
        """The text of a module."""
        place = module.replace(".", "/")
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self._travels:
                return self._project / file
        top, *parts = module.split(".")
        if self._is_own(top):
            raise _NotThere(module, self._own_modules()) if not self._is_own(place) else _NotSure
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            raise _NotSure from None
        if spec is None:
            raise _NotThere(top, self._own_modules())
        file_, folders = Path(spec.origin or ""), [*map(Path, spec.submodule_search_locations or ())]
        for number, part in enumerate(parts):
            there = [folder for folder in folders if any(folder.glob(f"{part}.*")) or (folder / part).is_dir()]
            if not there:
                if part not in self.names(".".join([top, *parts[:number]])):  # a package may make a module of a name
                    known = {each.stem for folder in folders for each in folder.glob("[!_]*")}
                    raise _NotThere(f"{'.'.join([top, *parts[: number + 1]])}", {f"{top}.{each}" for each in known})
                raise _NotSure
            folder = there[0] / part
            file_ = folder / "__init__.py" if folder.is_dir() else there[0] / f"{part}.py"
            folders = [folder]
        if file_.suffix != ".py":
            raise _NotSure
        return file_

    def _is_own(self, place: str) -> bool:
        return any(name == f"{place}.py" or name.startswith(f"{place}/") for name in self._travels)

    def _own_modules(self) -> set[str]:
        files = (Path(name) for name in self._travels if name.endswith(".py"))
        return {".".join((each.parent if each.stem == "__init__" else each.with_suffix("")).parts) for each in files}


def _of_module(node: ast.AST) -> Iterator[ast.AST]:
    """What a module runs itself, but for the bodies of functions and classes."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _of_module(child)
