"""What is wrong with a section can be known from its text alone, before anything of it is run: in milliseconds.

It needs no training library, so it is what is left of the preflight where they are not installed. It says nothing that
it is not sure of: what only running the environment shows is the preflight's.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kaggle_manager.errors import ConfigError
from kaggle_manager.local_kaggle.image_packages import image_packages
from kaggle_manager.local_kaggle.installed import folder_of
from kaggle_manager.sections import notebook
from kaggle_manager.sections.hyperparameters import SB3_CONTRIB as CONTRIB_ALGORITHMS
from kaggle_manager.sections.hyperparameters import meant, unknown, unknown_policy
from kaggle_manager.sections.identity import source_digests
from kaggle_manager.sections.imports import imported_files
from kaggle_manager.sections.model import AnyScenario, ScenarioConfig, Section
from kaggle_manager.sections.scaffold import TESTED
from kaggle_manager.sections.script import ScriptScenario, script_files
from kaggle_manager.sessions import object_names
from kaggle_manager.sessions.bundle import Bundle
from kaggle_manager.sessions.image_view import hidden_from

SB3 = "stable-baselines3"
SB3_CONTRIB = "sb3-contrib"
# Modules that Python removed in 3.12 and 3.13 (docs.python.org, What's New); Kaggle's image has 3.13 since October
# 2026. Without those that a package of the image (`standard-chunk`, `audioop-lts`) or a common one (cgi) brings back.
GONE = frozenset(
    {"asynchat", "asyncore", "imp", "smtpd"}
    | {"cgitb", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev"}
    | {"pipes", "sndhdr", "spwd", "telnetlib", "uu", "xdrlib"}
)
# What a session keeps of its image; as in `trainer/packages`, which is on its own in a session.
HELD = re.compile(r"torch|numpy|triton|pytorch-triton.*|nvidia-.*|jax.*")


# Modules whose packages have another name, of those that Kaggle's image has.
KNOWN_AS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "git": "gitpython",
    "mpl_toolkits": "matplotlib",
    "OpenGL": "pyopengl",
    "osgeo": "gdal",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def problems(project: Path, section: Section, scenario: AnyScenario, bundle: Bundle) -> list[str]:
    """What would end a session of `scenario`, each with its key.

    Args:
        bundle: what travels.
    """
    travels = {name for name, _ in bundle.files}
    if isinstance(scenario, ScriptScenario):
        return [*_held(section), *_of_script(project, section, scenario, travels)]
    found = [*_hyperparameters(section, scenario), *_algorithm(section, scenario), *_held(section)]
    found += _sources(project, section, scenario)
    all_here = not not_installed(section)
    for name, key in {scenario.environment: "environment", **scenario.objects}.items():
        if behind := _left_behind(name.partition(":")[0], key, project, travels):
            found += behind
        elif wrong := object_names.mistake(name, project, travels, all_here=all_here):
            found.append(f"{key}: {wrong}")
    file = _module_file(scenario.environment.partition(":")[0], travels)
    tree = _parsed(project / file) if file else None
    if file and tree is not None:
        found += _arguments(tree, scenario)
        for module in _imports(tree):
            top = module.partition(".")[0]
            if top in GONE and not _brought(top, section, travels):
                found.append(f"{file}: imports {module}, which Python 3.13, the image's, does not have any more")
            found += _left_behind(module, file, project, travels)
    return list(dict.fromkeys(found))


def _of_script(project: Path, section: Section, scenario: ScriptScenario, travels: set[str]) -> Iterator[str]:
    files = script_files(scenario, section.folder, project)
    is_file = isinstance(scenario.script, str) and not scenario.module
    if is_file and not files:
        yield f"script: there is no file {scenario.script} in {section.folder} or in {project}"
    for file in files:
        try:
            notebook.source_of(project / file)
        except notebook.NoScript as error:
            yield f"script: {file} cannot be run as a script: {error}"
        tree = _parsed(project / file)
        for module in dict.fromkeys(_imports(tree) if tree else ()):
            top = module.partition(".")[0]
            if top in GONE and not _brought(top, section, travels):
                yield f"{file}: imports {module}, which Python 3.13, the image's, does not have any more"


def _hyperparameters(section: Section, scenario: ScenarioConfig) -> list[str]:
    brought_by = SB3_CONTRIB if scenario.algorithm in CONTRIB_ALGORITHMS else SB3
    pinned = {_name(pin): pin.partition("==")[2] for pin in section.kernel.packages}.get(brought_by, TESTED[SB3])
    if pinned != TESTED[SB3]:  # another version may have others
        return []
    named = unknown(scenario.algorithm, scenario.hyperparameters)
    return [*named, *unknown_policy(scenario.algorithm, scenario.policy)]


def _algorithm(section: Section, scenario: ScenarioConfig) -> Iterator[str]:
    """No image has sb3-contrib; it goes with the stable-baselines3 of the same version."""
    if section.has_image and scenario.algorithm in CONTRIB_ALGORITHMS:
        pinned = {_name(pin): pin.partition("==")[2] for pin in section.kernel.packages}
        if SB3_CONTRIB not in pinned and SB3_CONTRIB not in image_packages():
            version = pinned.get(SB3, TESTED[SB3])
            yield (
                f"packages: {scenario.algorithm} is an algorithm of sb3-contrib, which a session does not have: add "
                f'"{SB3_CONTRIB}=={version}"'
            )


def _sources(project: Path, section: Section, scenario: ScenarioConfig) -> Iterator[str]:
    """Folders, of which no fingerprint can be made; what is wrong with a file is said where it is run."""
    for key in ("environment_files", "reward_files"):
        names = [
            name for name in getattr(scenario, key) if any((at / name).is_dir() for at in (section.folder, project))
        ]
        try:
            source_digests(section.folder, names, project)
        except ConfigError as error:
            yield f"{key}: {error.message}; {error.next_step}"


def _held(section: Section) -> Iterator[str]:
    """Pins of what a session keeps of its image: which version that has, the platform decides."""
    for pin in section.kernel.packages if section.has_image else ():
        name = _name(pin)
        if HELD.fullmatch(name) and name in image_packages():
            yield (
                f"packages: a session keeps the {name} of its image, to which the rest of it is built, and would "
                f"refuse {pin}: take it out of `packages`"
            )


def doubts(section: Section) -> list[str]:
    """What may end a session, and may as well be right: pins of what is here in another version, or from a folder."""
    found = []
    for pin in section.kernel.packages:
        try:
            here = importlib.metadata.distribution(_name(pin))
        except importlib.metadata.PackageNotFoundError:
            continue
        if not Requirement(pin).specifier.contains(here.version, prereleases=True):
            found.append(
                f"packages: a session has {pin}, and this machine tries {here.metadata['Name']} {here.version}: to try "
                f"what a session has, pip install '{pin}'; or pin {here.version}"
            )
        if where := folder_of(here.read_text):
            found.append(
                f"packages: {pin} was installed here from the folder {where}; where no package index has that version, "
                "copy its code into the project, and name that in `include`"
            )
    return found


def folders_of(packages: Iterable[str]) -> list[str]:
    """The folders that pinned packages were installed here from: a session has these packages from an index."""
    found = []
    for pin in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(folder_of(importlib.metadata.distribution(_name(pin)).read_text))
    return [folder for folder in found if folder]


def lacking_imports(project: Path, section: Section, scenario: AnyScenario) -> list[str]:
    """Packages that it imports and a session seems to lack, where it cannot be tried: by text alone."""
    if not section.has_image:
        return []
    hidden, found = hidden_from(section), []
    there = {canonicalize_name(name) for name in (*image_packages(), *map(_name, section.kernel.packages))}
    for file, modules in _imported(project, section, scenario).items():
        for module in modules:
            top = module.partition(".")[0]
            parents = [module.rsplit(".", number)[0] for number in range(module.count(".") + 1)]
            pin = next((hidden[each] for each in parents if each in hidden), None)
            if top in sys.stdlib_module_names | GONE | {"kaggle_manager"} or _is_of_project(project, top):
                continue
            if pin:
                found.append(f'{file}: imports {top}, which a session does not have: add "{pin}" to packages')
            elif pin is not None:
                found.append(
                    f"{file}: imports {top}, which a session does not have and which was installed here from a folder: "
                    "copy its code into the project, and name that in `include`"
                )
            elif not _modules_here(top) and canonicalize_name(KNOWN_AS.get(top, top)) not in there:
                found.append(
                    f"{file}: imports {top}, which is not pinned, not in the list of its image and not installed "
                    f"here: add its package to packages, as {top}==VERSION"
                )
    return list(dict.fromkeys(found))


def _imported(project: Path, section: Section, scenario: AnyScenario) -> dict[str, list[str]]:
    """Modules that a session imports, as far as text says so, by the file or the key of section.toml that does."""
    named: dict[str, list[str]] = {}
    if isinstance(scenario, ScriptScenario):
        files = script_files(scenario, section.folder, project)
    else:
        for name, key in scenario.objects.items():
            named.setdefault(key, []).append(name.partition(":")[0])
        # `gymnasium.make` imports the module before the colon of an id.
        made_of = str(scenario.environment_kwargs.get("id", "")).split(":")[:-1]
        modules = [scenario.environment.partition(":")[0], *made_of, *(each for key in named for each in named[key])]
        files = [file for module in modules for file in imported_files(project, module)]
    trees = {file: _parsed(project / file) for file in files}
    return {file: list(dict.fromkeys(_imports(tree) if tree else ())) for file, tree in trees.items()} | named


def modules_not_here(project: Path, section: Section, scenario: ScriptScenario) -> list[str]:
    """Modules that a script imports whenever it runs, and this machine does not have."""
    found: dict[str, None] = {}
    for file in script_files(scenario, section.folder, project):
        tree = _parsed(project / file)
        for module in _imports(tree) if tree else ():
            top = module.partition(".")[0]
            beside = _is_of_project((project / file).parent, top)
            if top not in sys.stdlib_module_names and not beside and not _is_of_project(project, top):
                with contextlib.suppress(ImportError, ValueError):
                    if importlib.util.find_spec(top) is None:
                        found[top] = None
    return list(found)


def not_installed(section: Section) -> list[str]:
    """Packages that this machine would have to install to train `section` itself."""
    agents = any(not isinstance(each, ScriptScenario) for each in section.scenarios.values())
    wanted = [*(["torch"] if agents else []), *map(_name, section.kernel.packages)]
    return [name for name in wanted if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_of_project(project: Path, top: str) -> bool:
    return (project / top).is_dir() or (project / f"{top}.py").is_file()


def _modules_here(top: str) -> bool:
    """Whether a package of this machine brings a module."""
    return top in importlib.metadata.packages_distributions()


def _name(pin: str) -> str:
    return canonicalize_name(pin.partition("==")[0].partition("[")[0])


def _brought(module: str, section: Section, travels: set[str]) -> bool:
    """Whether a module that Python has no more is one of the project's own, or of a pinned package."""
    if any(module in (Path(file).stem, *Path(file).parts[:-1]) for file in travels):
        return True
    pinned = {_name(pin) for pin in section.kernel.packages}
    known = {f"standard-{module}", f"py{module}", f"zombie-{module}"}
    return not pinned.isdisjoint(
        known | {*map(canonicalize_name, importlib.metadata.packages_distributions().get(module, ()))}
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
        return ast.parse(notebook.source_of(file))
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
    if len(defined) != 1 or defined[0].decorator_list or _times_bound(tree, name) != 1:
        return None
    made = defined[0]
    if isinstance(made, ast.ClassDef):
        if made.keywords or any(isinstance(it, ast.FunctionDef) and it.name == "__new__" for it in made.body):
            return None
        constructors = [it for it in made.body if isinstance(it, ast.FunctionDef) and it.name == "__init__"]
        if len(constructors) != 1 or _times_bound(made, "__init__") != 1 or constructors[0].decorator_list:
            return None
        made = constructors[0]
        skipped = 1
    else:
        skipped = 0
    arguments = made.args
    if arguments.kwarg is not None:
        return None
    positional = [*arguments.posonlyargs, *arguments.args][skipped:]
    return {it.arg for it in (*positional, *arguments.kwonlyargs)}


def _times_bound(tree: ast.AST, name: str) -> int:
    """How often a name may be given a meaning somewhere below; what is imported whole may have it too."""
    count = 0
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=bound) | ast.AsyncFunctionDef(name=bound) | ast.ClassDef(name=bound):
                count += bound == name
            case ast.alias(name=bound, asname=other):
                count += (other or bound) in (name, "*")
            case ast.Name(id=bound, ctx=ast.Store() | ast.Del()):
                count += bound == name
            case ast.Attribute(attr=bound, ctx=ast.Store()):
                count += bound == name or (bound == "__init__" and ast.unparse(node.value) == name)
    return count
