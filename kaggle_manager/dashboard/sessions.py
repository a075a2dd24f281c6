"""The lineage of a run, session by session: what each continued, what it saved, and when that was verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kaggle_manager.protocol.file_names import RESULT_FILE
from kaggle_manager.protocol.session_result import LARGEST_RESULT_BYTES, SessionResult
from kaggle_manager.runs.rows import SessionRow


@dataclass(frozen=True)
class SessionLink:
    """One session of a lineage.

    Attributes:
        parent_sha256: manifest of the checkpoint it continued; None for a start from zero.
        first_step, last_step: steps it started from, and steps saved at its end.
        size: bytes of the files its result names; None: no result was downloaded.
        verified_at: when its outputs were downloaded and their hashes verified (ISO 8601); None: they were not.
    """

    number: int
    parent_sha256: str | None
    bundle_sha256: str
    first_step: int
    last_step: int | None
    size: int | None
    verified_at: str | None


def session_links(
    sessions: Sequence[SessionRow], events: Sequence[Mapping[str, Any]], downloads: Path
) -> Iterator[SessionLink]:
    """The sessions of a run, first to last; `downloads` is the folder of their outputs."""
    downloaded = {event["generation"]: event["at"] for event in events if event["kind"] == "downloaded"}
    for session in sessions:
        yield SessionLink(
            number=session.generation,
            parent_sha256=session.parent_sha256,
            bundle_sha256=session.bundle_sha256,
            first_step=session.min_step,
            last_step=session.step,
            size=_size(downloads / f"generation_{session.generation}" / RESULT_FILE),
            verified_at=downloaded.get(session.generation),
        )


def _size(path: Path) -> int | None:
    try:
        if path.stat().st_size > LARGEST_RESULT_BYTES:
            return None
        result = SessionResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # nothing is decided by it
        return None
    return sum(file.size for file in result.files)
