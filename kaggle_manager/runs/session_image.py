"""Which docker image the next session of a run asks for: the one the run trains in, until there is a reason to move.

Pure. What is known of each session's image is a fact of its row, `image`; why earlier ones no longer count is in the
run's settings: `image_from`, the number of the first session that does, and `image_refused`, which cannot be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_manager.runs.rows import SessionRow


def image_to_ask_for(sessions: Sequence[SessionRow], settings: Mapping[str, Any]) -> str:
    """Digest of the image of the newest session that counts; "" for the platform's newest image."""
    counting = [session for session in sessions if session.generation >= (settings.get("image_from") or 0)]
    known = [session.facts["image"] for session in counting if session.facts.get("image")]
    return known[-1] if known and known[-1] != settings.get("image_refused") else ""


def moved_after(generation: int) -> dict[str, Any]:
    """Settings of a run whose sessions up to this one no longer say what image the next one asks for."""
    return {"image_from": generation + 1, "image_refused": None}


def short(image: str) -> str:
    """An image as people tell it from another: the beginning of its digest."""
    return image.rpartition(":")[2][:12]
