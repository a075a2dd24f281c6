"""What a session leaves beside its training tree: the first file says what it continues, the last one what came of it.

The result is written last, by renaming a complete file, and lists every other output with size and sha256: whoever
finds it has the session's whole word. A crash is called a crash.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import sha256_of, write_atomic
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, VerificationError
from kaggle_manager.trainer.runtime.log_lines import say

START_FILE = "session_start.json"
RESULT_FILE = "session_result.json"
SCHEMA = 1

CRASHED, REFUSED, INCOMPATIBLE = 1, 3, 7


def write_start(working: Path, facts: Mapping[str, Any]) -> None:
    """Write `session_start.json`."""
    _write(working / START_FILE, {"schema": SCHEMA, **facts})


def write_result(working: Path, facts: Mapping[str, Any]) -> None:
    """Write `session_result.json` with the list of all other outputs, and the KM_RESULT line without it."""
    files = [
        {"name": path.relative_to(working).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(working.rglob("*"))
        if path.is_file() and path.name != RESULT_FILE
    ]
    result = {"schema": SCHEMA, **facts}
    _write(working / RESULT_FILE, {**result, "files": files})
    say("KM_RESULT", **result, output_files=len(files))


def failure(error: BaseException) -> dict[str, Any]:
    """Outcome, exit code and error of a session that ended in an exception."""
    last_line = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, CheckpointIncompatible):
        outcome, exit_code = "refused", INCOMPATIBLE
    elif isinstance(error, VerificationError | ConfigError):
        outcome, exit_code = "refused", REFUSED
    else:
        outcome, exit_code = "crashed", CRASHED
    return {
        "outcome": outcome,
        "exit_code": exit_code,
        "reason": str(error) or last_line,
        "error": {"type": type(error).__name__, "message": str(error), "last_line": last_line},
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomic(Disk(), path, (json.dumps(content, indent=1) + "\n").encode())
