"""Which names of files from outside may be used. A name is refused, never repaired: a repaired name is another file."""

from __future__ import annotations

from kaggle_manager.errors import UnsafePath

# Device names that Windows reserves in every folder, whatever the extension.
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}


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
