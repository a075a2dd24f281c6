"""What is wrong with a section can be known from its text alone, before anything of it is run: in milliseconds.

It needs no training library, so it is what is left of the preflight where they are not installed. It says nothing that
it is not sure of: what only running the environment shows is the preflight's.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from kaggle_manager.sections.hyperparameters import meant, unknown, unsayable
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.sections.scaffold import TESTED
from kaggle_manager.sessions.bundle import Bundle

SB3 = "stable-baselines3"
# Modules that Python removed in 3.12 and 3.13 (docs.python.org, What's New); Kaggle's image has 3.13 since October
# 2026. Without those that a package of the image (`standard-chunk`, `audioop-lts`) or a common one (cgi) brings back.
GONE = frozenset(
    {"asynchat", "asyncore", "imp", "smtpd"}
    | {"cgitb", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev"}
    | {"pipes", "sndhdr", "spwd", "telnetlib", "uu", "xdrlib"}
)


def problems(project: Path, section: Section, scenario: ScenarioConfig, bundle: Bundle) -> list[str]:
    """What would end a session of `scenario`, each with its key.

    Args:
        bundle: what travels.
    """
    travels = {name for name, _ in bundle.files}
    found = [*_hyperparameters(section, scenario), *_pins(section)]
    file = _module_file(scenario.environment.partition(":")[0], travels)
    if file is None:
        return [*found, *_left_behind(scenario.environment.partition(":")[0], "environment", project, travels)]
    tree = _parsed(project / file)
    if tree is not None:
        found += _arguments(tree, scenario)
        for module in _imports(tree):
            top = module.partition(".")[0]
            if top in GONE and not any(pin.startswith(f"standard-{top}==") for pin in section.kernel.packages):
                found.append(f"{file}: imports {module}, which Python 3.13, the image's, does not have any more")
            found += _left_behind(module, file, project, travels)
    return list(dict.fromkeys(found))


def _hyperparameters(section: Section, scenario: ScenarioConfig) -> list[str]:
    objects = unsayable(scenario.hyperparameters)
    pinned = dict(pin.split("==") for pin in section.kernel.packages).get(SB3, TESTED[SB3])
    if pinned != TESTED[SB3]:  # another version may have others
        return objects
    return [*unknown(scenario.algorithm, scenario.hyperparameters), *objects]


def _pins(section: Section) -> Iterator[str]:
    """Pins that no index has: their package was installed here from a folder."""
    for pin in section.kernel.packages:
        name = pin.partition("==")[0].partition("[")[0]
        try:
            origin = importlib.metadata.distribution(name).read_text("direct_url.json")
            found = json.loads(origin) if origin else {}
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
        if "dir_info" in found:
            where = str(found.get("url", "")).removeprefix("file://")
            yield (
                f"packages: {pin} was installed here from the folder {where}, where no session can get it; copy its "
                "code into the project, and name that in `include`"
            )


def _left_behind(module: str, who: str, project: Path, travels: set[str]) -> list[str]:
    """A module of the project that does not travel; nothing for one that is not the project's."""
    parts = module.split(".")
    for number in range(len(parts), 0, -1):
        place = "/".join(parts[:number])
        for file in (f"{place}.py", f"{place}/__init__.py"):
            if (project / file).is_file() and file not in travels:
                return [f'{who}: {file} of the project does not travel: add "{file}" to `include` in section.toml']
            if file in travels:
                return []
    return []


def _module_file(module: str, travels: set[str]) -> str | None:
    place = module.replace(".", "/")
    return next((file for file in (f"{place}.py", f"{place}/__init__.py") if file in travels), None)


def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # that is said where it is run
        return None


def _imports(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported whenever this one is."""
    for node in tree.body:  # what is in `try`, `if` or a function may not be needed
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def _arguments(tree: ast.Module, scenario: ScenarioConfig) -> list[str]:
    """`environment_kwargs` that the callable does not take, where its signature is there to read."""
    name = scenario.environment.partition(":")[2]
    taken = _parameters(tree, name)
    if taken is None:
        return []
    given: Mapping[str, object] = scenario.environment_kwargs
    return [
        f"environment_kwargs.{key}: {name} takes none of that name{meant(key, taken)}"
        for key in given
        if key not in taken
    ]


def _parameters(tree: ast.Module, name: str) -> set[str] | None:
    """Names of the parameters of a function or class; None where they are not known for sure."""
    defined = [it for it in tree.body if isinstance(it, ast.FunctionDef | ast.ClassDef) and it.name == name]
    if len(defined) != 1 or defined[0].decorator_list:
        return None
    made = defined[0]
    if isinstance(made, ast.ClassDef):
        if made.keywords or any(isinstance(it, ast.FunctionDef) and it.name == "__new__" for it in made.body):
            return None
        made = next((it for it in made.body if isinstance(it, ast.FunctionDef) and it.name == "__init__"), made)
        if not isinstance(made, ast.FunctionDef) or made.decorator_list:
            return None
        skipped = 1
    else:
        skipped = 0
    arguments = made.args
    if arguments.kwarg is not None:
        return None
    positional = [*arguments.posonlyargs, *arguments.args][skipped:]
    return {it.arg for it in (*positional, *arguments.kwonlyargs)}
