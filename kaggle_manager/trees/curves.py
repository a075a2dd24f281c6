"""The curves beside the evaluations, as the trainer writes them: training episodes, and what a script told.

Promises: the standard library alone reads them; a line that is no point is left out; a file costs as much as a curve
may, whatever it is.
"""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.long_strings import lines
from kaggle_manager.protocol.metrics import parse_metric

LARGEST = 1e100
"""Beyond it, sums and differences of values would not be numbers any more."""
MAX_BYTES = 16 << 20
# In characters, about: a row is a return, a length and a time.
LONGEST_ROW = 4_000
LONGEST_NAME = 100


def read_episodes(path: Path) -> tuple[list[tuple[int, float]], int]:
    """(step at its end, return) of each episode in a Monitor file, and how many of its lines are none.

    Raises:
        OSError: the file is there and cannot be read, or is larger than `MAX_BYTES`.
    """
    if not _is_there(path):
        return [], 0
    found: list[tuple[int, float]] = []
    skipped = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in lines(iter(lambda: file.read(LONGEST_ROW), ""), LONGEST_ROW):
            if not line or line.startswith(("#", "r,")):
                continue
            try:
                value, step = float(line.split(",")[0]), int(line.split(",")[3])
                if not abs(value) < LARGEST or not 0 <= step < LARGEST:
                    raise ValueError(line)
            except (ValueError, IndexError):
                skipped += 1
                continue
            found.append((step, value))
    return found, skipped


def read_metrics(path: Path, most: int) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each point in a script's file of metrics; a line that is none is left out.

    Args:
        most: metrics; the first ones that it told.

    Raises:
        OSError: the file is there and cannot be read, or is larger than `MAX_BYTES`.
    """
    if not _is_there(path):
        return {}
    found: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in lines(iter(lambda: file.read(LONGEST_ROW), ""), LONGEST_ROW):
            told = parse_metric(line)
            if told is None or not abs(told.value) < LARGEST:
                continue
            name = one_line(told.name, LONGEST_NAME)
            if name in found or len(found) < most:
                found.setdefault(name, []).append((told.step, told.value))
    return found


def _is_there(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.stat().st_size > MAX_BYTES:
        raise OSError(f"it is larger than {MAX_BYTES >> 20} MB")
    return True
