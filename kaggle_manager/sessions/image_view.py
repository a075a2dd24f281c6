"""Which packages a session has: those of its image, what the section pins, and what these require; and what it lacks.

Names decide, not versions. The list of the image is a snapshot from public image repositories; what is in neither of
the three is taken to be missing, so that it is named before a session is spent on it.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from packaging.utils import canonicalize_name

from kaggle_manager.local_kaggle.image_packages import image_packages
from kaggle_manager.local_kaggle.installed import Distribution, installed, with_requirements
from kaggle_manager.sections.model import Section

# What a machine may have that is no library of anybody's environment.
_OF_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "kaggle-manager"})


def hidden_from(section: Section) -> dict[str, str]:
    """Module -> pin (`name==version`) of every package of this machine that a session of `section` would lack.

    A module that several packages share is not among them, but what only a lacking one has below it is:
    `google.thing`. The pin is "" where the package was installed from a folder: no index has it.
    """
    if not section.has_image:  # nobody knows here what they have
        return {}
    lacking = _lacking(section.kernel.packages)
    return {
        module: "" if _here()[name].is_of_folder else f"{name}=={lacking[name]}"
        for module, name in _brought_by(lacking).items()
    }


def pins_for(modules: Iterable[str], pinned: Iterable[str]) -> list[str]:
    """What to pin beside `pinned` so that a session can import `modules`: no package that another one requires.

    Args:
        modules: full names: of a folder that packages share, the part below it decides.
    """
    lacking = _lacking(pinned)
    brought = _brought_by(lacking)
    wanted = {brought[each] for module in modules for each in _with_parents(module) if each in brought}
    wanted = {name for name in wanted if not _here()[name].is_of_folder}
    roots = {name for name in wanted if not any(name in with_requirements(_here(), [it]) for it in wanted - {name})}
    return sorted(f"{name}=={lacking[name]}" for name in roots)


def _lacking(pinned: Iterable[str]) -> dict[str, str]:
    """Canonical name -> version, of what is installed here and in no session."""
    # Of this program itself a session has what is in its bundle, and nothing of what the manager requires.
    there = with_requirements(_here(), [*image_packages(), *(pin.partition("==")[0] for pin in pinned)])
    return {name: it.version for name, it in _here().items() if name not in there | _OF_INSTALLERS}


def _brought_by(lacking: Mapping[str, str]) -> dict[str, str]:
    """Module -> the package that brings it, of those modules that only lacking packages have."""
    return {module: owner for top, names in _modules().items() for module, owner in _only_of(lacking, top, names)}


def _only_of(lacking: Mapping[str, str], module: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """(module, package) of `module`, which these packages bring, or of what is below it."""
    without = [name for name in names if name in lacking]
    if not without:
        return
    if len(names) == 1:
        yield module, names[0]
        return
    below: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for part in _parts(name, module):
            below[part].append(name)
    of_itself = below.pop("__init__", names if not below else [])
    if len(without) == len(names) and of_itself:
        yield module, of_itself[0]
        return
    for part, owners in below.items():
        yield from _only_of(lacking, f"{module}.{part}", owners)


def _parts(name: str, module: str) -> set[str]:
    """The names right below `module` of what a package has there."""
    folder = f"{module.replace('.', '/')}/"
    found = set()
    for file in _files(name):
        if file.startswith(folder):
            part, _, rest = file[len(folder) :].partition("/")
            found.add(part if rest else inspect.getmodulename(part))
    return {part for part in found if part and part.isidentifier() and part != "__pycache__"}


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:number]) for number in range(1, len(parts) + 1))


@cache
def _here() -> Mapping[str, Distribution]:
    return installed()


@cache
def _files(name: str) -> list[str]:
    return _here()[name].files()


@cache
def _modules() -> Mapping[str, list[str]]:
    """Top-level module -> canonical names of the distributions that bring it; none that Python has itself."""
    found = {
        module: [canonicalize_name(name) for name in names]
        for module, names in importlib.metadata.packages_distributions().items()
        if module not in sys.stdlib_module_names
    }
    return {module: [name for name in dict.fromkeys(names) if name in _here()] for module, names in found.items()}
