"""Rows of text under each other, and how old something is: what lists on the command line share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kaggle_manager.system.formatting import duration, size

if TYPE_CHECKING:
    from kaggle_manager.trees.backups import Copy


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column under each other, two spaces apart."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))] if rows else []
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def age(moment: str) -> str:
    """How long ago an ISO 8601 moment was; `-` when it is not one."""
    try:
        return duration((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):
        return "-"


def copies_table(copies: Sequence[Copy], states: Sequence[str] = ()) -> list[str]:
    """Kept copies, a line each; `states` says of each what its hashes showed."""
    rows = [["kind", "step", "session", "size", "saved ago", *(["hashes"] if states else []), "why", "folder"]]
    for index, copy in enumerate(copies):
        step = "-" if copy.step is None else f"{copy.step:,}"
        session = "-" if copy.generation is None else str(copy.generation)
        why = "a session needs it" if copy.in_use else copy.reason or "-"
        why = why if len(why) <= 40 else why[:39] + "…"
        cells = [copy.kind, step, session, size(copy.size), age(copy.saved_at), *states[index : index + 1]]
        rows.append([*cells, why, str(copy.folder)])
    return table(rows)
