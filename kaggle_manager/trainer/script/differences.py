"""In what two checkpoints of a script differ: files by their bytes, and of a file of torch or JSON its entries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_NAMED, LARGEST_OPENED = 5, 200_000_000


def different(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """Names of the files that are not the same, or only on one side."""
    return sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


def entries(a: Path, b: Path) -> list[str] | None:
    """Entries in which two files of torch or JSON differ; None where they cannot be opened without running their code.

    There may be none though the bytes differ: a file of torch also says which of its texts were one object.
    """
    try:
        if max(a.stat().st_size, b.stat().st_size) > LARGEST_OPENED:
            return None
        return list(_differing(_opened(a), _opened(b), ""))
    except Exception:  # whatever a file that is none raises
        return None


def _opened(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_bytes())
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _differing(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differing(a.get(key), b.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for number, (one, two) in enumerate(zip(a, b, strict=True)):
            yield from _differing(one, two, f"{where}[{number}]")
    elif hasattr(a, "equal") and hasattr(b, "equal"):
        if a.shape != b.shape or not a.equal(b):
            yield where
    elif a != b:
        yield where


def summed_up(names: list[str]) -> list[str]:
    """Entries by name, those whose names differ in numbers alone as one: `state.pt: random.python (625 values)`."""
    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    for name in names:
        place = re.sub(r"(\[\])+$", "", re.sub(r"\[\d+\]", "[]", name))
        counts[place] = counts.get(place, 0) + 1
        first.setdefault(place, name)
    return [first[place] if count == 1 else f"{place} ({count:,} values)" for place, count in counts.items()]


def listed(names: list[str]) -> str:
    """The first of them."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
