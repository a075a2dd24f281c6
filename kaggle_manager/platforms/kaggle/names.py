"""What may be used as a name: slugs we send, file names we are sent.

Pure functions. A name from outside is refused, never repaired: a repaired name is another file.
"""

from __future__ import annotations

import re

from kaggle_manager.errors import ConfigError, UnsafePath

# Kaggle derives a slug from a title, and accepts titles of 5 (kernels) or 6 (datasets) to 50 characters.
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST = 50
# Device names that Windows reserves in every folder, whatever the extension.
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}


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


def check_file_name(name: str) -> None:
    """Accept only a relative path that means the same file, inside its folder, on every system.

    Raises:
        UnsafePath: absolute, climbing, or written for another system's rules.
    """
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") or part.endswith((" ", ".")) for part in parts)
        or any(part.split(".")[0].lower() in _RESERVED for part in parts)
        or any(character in '\\:*?"<>|' or not character.isprintable() for character in name)
    ):
        raise UnsafePath(
            f"The name {name!r} is not a plain path inside a folder.",
            safe="nothing was written under it",
            next_step="do not use these outputs; look at what the kernel wrote",
        )
