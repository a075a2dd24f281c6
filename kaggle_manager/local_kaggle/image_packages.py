"""The distributions of Kaggle's image, by name: `image_packages.txt`, a snapshot from public image repositories.

Kaggle's image of today may differ. Names decide what a session is taken to have; versions are for those who compare.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from packaging.utils import canonicalize_name

LIST = Path(__file__).with_name("image_packages.txt")


@cache
def image_packages(path: Path = LIST) -> tuple[str, ...]:
    """The names, as the list writes them."""
    return tuple(re.findall(r"^[\w.-]+", path.read_text(encoding="utf-8"), re.MULTILINE))


@cache
def image_versions(path: Path = LIST) -> dict[str, str]:
    """Canonical name -> version, of those that the list tells one of."""
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}
