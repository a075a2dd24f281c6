"""Which packages a session has: Kaggle's image, what the section pins, and what these require; and what it lacks.

Names decide, not versions. The list of the image is a snapshot from public image repositories; what is in neither of
the three is taken to be missing, so that it is named before a session is spent on it.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from kaggle_manager.local_kaggle.image_packages import image_packages
from kaggle_manager.sections.model import Section

# What a machine may have that is no library of anybody's environment.
_OF_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "kaggle-manager"})


def hidden_from(section: Section, code: Path | None = None) -> dict[str, str]:
    """Module -> pin (`name==version`) of every package of this machine that a session of `section` would lack.

    Args:
        code: what travels, unpacked; a module that is in it is never hidden.
    """
    lacking = _lacking(section.kernel.packages)
    return {
        module: f"{lacking[names[0]][0]}=={lacking[names[0]][1]}"
        for module, names in _modules().items()
        if all(name in lacking for name in names) and not _travels(module, code)
    }


def pins_for(modules: Iterable[str], pinned: Iterable[str]) -> list[str]:
    """What to pin beside `pinned` so that a session can import `modules`: no package that another one requires."""
    lacking = _lacking(pinned)
    wanted = {name for module in modules for name in _modules().get(module, []) if name in lacking}
    roots = {name for name in wanted if not any(name in _closure([other]) for other in wanted - {name})}
    return sorted("{}=={}".format(*lacking[name]) for name in roots)


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _lacking(pinned: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Canonical name -> name and version, of what is installed here and in no session."""
    # Of this program itself a session has what is in its bundle, and nothing of what the manager requires.
    there = _closure({*image_packages(), *(pin.partition("==")[0] for pin in pinned)}) | _OF_INSTALLERS
    return {name: facts for name, facts in _installed().items() if name not in there}


def _closure(names: Iterable[str]) -> set[str]:
    """Distributions with all they require, as far as those that are installed here say."""
    found: set[str] = set()
    left = [*names]
    while left:
        name, _, extras = left.pop().partition("[")
        name = canonical(name)
        if name not in found or extras:
            found.add(name)
            left += [it for it in _requirements(name, frozenset(re.findall(r"[\w-]+", extras))) if it not in found]
    return found


@cache
def _requirements(name: str, extras: frozenset[str]) -> list[str]:
    """What a distribution requires; markers other than of extras are taken to hold."""
    found = []
    for text in _required_by().get(name, ()):
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", text)
        if extra is None or canonical(extra[1]) in {canonical(each) for each in extras}:
            found.append(canonical(re.split(r"[^\w.-]", text.strip(), maxsplit=1)[0]))
    return found


@cache
def _required_by() -> Mapping[str, list[str]]:
    return {
        canonical(it.metadata["Name"]): it.requires or []
        for it in importlib.metadata.distributions()
        if it.metadata["Name"]
    }


@cache
def _installed() -> Mapping[str, tuple[str, str]]:
    found = (it for it in importlib.metadata.distributions() if it.metadata["Name"])
    return {canonical(it.metadata["Name"]): (it.metadata["Name"], it.version) for it in found}


@cache
def _modules() -> Mapping[str, list[str]]:
    """Module -> canonical names of the distributions that bring it."""
    return {
        module: [canonical(name) for name in names]
        for module, names in importlib.metadata.packages_distributions().items()
    }


def _travels(module: str, code: Path | None) -> bool:
    return code is not None and any((code / place).exists() for place in (module, f"{module}.py"))
