"""Which names Kaggle gives a kernel or a dataset. Pure."""

from __future__ import annotations

import re

from kaggle_manager.errors import ConfigError

# Kaggle derives a slug from a title, and accepts titles of 5 (kernels) or 6 (datasets) to 50 characters.
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST = 50


def title_for(slug: str, *, shortest: int) -> str:
    """The title from which Kaggle derives exactly this slug.

    Raises:
        ConfigError: no title can give this slug.
    """
    if not _SLUG.fullmatch(slug) or not shortest <= len(slug) <= _LONGEST:
        raise ConfigError(
            f"{slug!r} cannot be a name on Kaggle: it takes {shortest} to {_LONGEST} characters, lower-case letters, "
            "digits and single hyphens between them.",
            safe="nothing was sent",
            next_step="choose another name",
        )
    return slug.replace("-", " ")
