"""What a session said as it began, as it lies among its outputs here: for people, nothing is decided by it."""

from __future__ import annotations

import json
from pathlib import Path

from kaggle_manager.protocol.file_names import START_FILE
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.runs.rows import SessionRow

# In bytes; the trainer writes some hundreds.
_MOST = 100_000


def versions_of(folder: Path, session: SessionRow) -> dict[str, str]:
    """The versions `session` computes with, by name; {} where it left none, or what lies there is another's."""
    try:
        with (folder / START_FILE).open("rb") as file:
            start = SessionStart.from_json(json.loads(file.read(_MOST)))
    except (OSError, ValueError, RecursionError):
        return {}
    if (start.run_id, start.generation) != (session.run_id, session.generation) or start.versions is None:
        return {}
    return {name: version for name, version in start.versions if version is not None}
