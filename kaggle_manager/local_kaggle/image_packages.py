"""The distributions of Kaggle's image, by name: `image_packages.txt`, a snapshot from public image repositories.

Kaggle's image of today may differ. Names decide what a session is taken to have; versions are for whoever compares.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("image_packages.txt")


@cache
def image_packages(path: Path = LIST) -> tuple[str, ...]:
    """The names, as the list writes them."""
    return tuple(re.findall(r"^[\w.-]+", path.read_text(encoding="utf-8"), re.MULTILINE))
