"""Which packages a session has: Kaggle's image, what the section pins, and what these require; and what it lacks.

Names decide, not versions. The list of the image is a snapshot from public image repositories; what is in neither of
the three is taken to be missing, so that it is named before a session is spent on it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from packaging.utils import canonicalize_name

from kaggle_manager.local_kaggle.image_packages import image_packages
from kaggle_manager.local_kaggle.installed import Distribution, installed, with_requirements
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
        module: f"{names[0]}=={lacking[names[0]]}"
        for module, names in _modules().items()
        if all(name in lacking for name in names) and not _travels(module, code)
    }


def pins_for(modules: Iterable[str], pinned: Iterable[str]) -> list[str]:
    """What to pin beside `pinned` so that a session can import `modules`: no package that another one requires."""
    lacking = _lacking(pinned)
    wanted = {name for module in modules for name in _modules().get(module, []) if name in lacking}
    roots = {name for name in wanted if not any(name in with_requirements(_here(), [it]) for it in wanted - {name})}
    return sorted(f"{name}=={lacking[name]}" for name in roots)


def _lacking(pinned: Iterable[str]) -> dict[str, str]:
    """Canonical name -> version, of what is installed here and in no session."""
    # Of this program itself a session has what is in its bundle, and nothing of what the manager requires.
    there = with_requirements(_here(), [*image_packages(), *(pin.partition("==")[0] for pin in pinned)])
    return {name: it.version for name, it in _here().items() if name not in there | _OF_INSTALLERS}


@cache
def _here() -> Mapping[str, Distribution]:
    return installed()


@cache
def _modules() -> Mapping[str, list[str]]:
    """Module -> canonical names of the distributions that bring it."""
    return {
        module: [canonicalize_name(name) for name in names]
        for module, names in importlib.metadata.packages_distributions().items()
    }


def _travels(module: str, code: Path | None) -> bool:
    return code is not None and any((code / place).exists() for place in (module, f"{module}.py"))
