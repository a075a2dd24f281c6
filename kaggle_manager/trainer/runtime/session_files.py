"""What a session leaves beside its training tree: the first file says what it continues, the last one how it ended.

The result is written last, by renaming a complete file, and lists every other output with size and sha256. A crash is
called a crash.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import sha256_of, write_atomic
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, Diverged, VerificationError
from kaggle_manager.protocol.document import Document
from kaggle_manager.protocol.events import ResultEvent
from kaggle_manager.protocol.file_names import RESULT_FILE, START_FILE
from kaggle_manager.protocol.session_result import CRASHED, INCOMPATIBLE, REFUSED, OutputEntry, SessionResult
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.trainer.runtime.log_lines import Emit

# In characters: an error's text may hold anything, and the result has a bound.
LONGEST_MESSAGE, LONGEST_EVENT_REASON = 20_000, 300


def session_fields(order: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `SessionResult` that say which session it is of, from an order that need not be valid."""
    generation = order.get("generation")
    return {
        "run_id": str(order.get("run_id", "")),
        "generation": generation if isinstance(generation, int) else 0,
        "bundle_sha256": str(order.get("bundle_sha256", "")),
    }


def write_start(working: Path, start: SessionStart) -> None:
    """Write `session_start.json`."""
    _write(working / START_FILE, start)


def write_result(working: Path, result: SessionResult, emit: Emit) -> None:
    """Write `session_result.json` with the list of all other outputs, and tell the end."""
    outputs = {path.relative_to(working).as_posix(): path for path in sorted(working.rglob("*")) if path.is_file()}
    files = tuple(
        OutputEntry(name=name, size=path.stat().st_size, sha256=sha256_of(path))
        for name, path in outputs.items()
        if path.name != RESULT_FILE and name == _storable(name)  # a name that is no text cannot be asked for
    )
    _write(working / RESULT_FILE, result.model_copy(update={"files": files}))
    emit(
        ResultEvent(
            run_id=result.run_id,
            generation=result.generation,
            bundle_sha256=result.bundle_sha256,
            outcome=result.outcome,
            reason=result.reason[:LONGEST_EVENT_REASON],
            exit_code=result.exit_code,
            step=result.step,
            output_files=len(files),
        )
    )


def failure(error: BaseException) -> dict[str, Any]:
    """Outcome, reason, exit code and error of a session that ended in an exception, as `SessionResult` has them."""
    message = _storable(str(error))
    last_line = _storable(traceback.format_exception_only(error)[-1].strip())
    if isinstance(error, CheckpointIncompatible):
        outcome, exit_code = "refused", INCOMPATIBLE
    elif isinstance(error, VerificationError | ConfigError):
        outcome, exit_code = "refused", REFUSED
    elif isinstance(error, Diverged):
        outcome, exit_code = "diverged", CRASHED
    else:
        outcome, exit_code = "crashed", CRASHED
    return {
        "outcome": outcome,
        "exit_code": exit_code,
        "reason": message or last_line,
        "error": {"type": type(error).__name__, "message": message, "last_line": last_line},
    }


def _storable(text: str) -> str:
    """Bounded, and without the halves of characters that a file name may have put into a message."""
    return text[:LONGEST_MESSAGE].encode("utf-8", "replace").decode("utf-8")


def _write(path: Path, document: Document) -> None:
    write_atomic(Disk(), path, (json.dumps(document.as_json(), indent=1) + "\n").encode())
