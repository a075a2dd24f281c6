"""What a session leaves beside its training tree: the first file says what it continues, the last one how it ended.

The result is written last, by renaming a complete file, whatever the user's code left in its place. It lists what the
next session needs with size and sha256, and names what else lies in the folder. A crash is called a crash.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, Diverged, VerificationError
from kaggle_manager.protocol.document import Document
from kaggle_manager.protocol.events import ResultEvent, session_tag
from kaggle_manager.protocol.file_names import OTHERS_ARCHIVE, RESULT_FILE, START_FILE
from kaggle_manager.protocol.session_result import (
    CRASHED,
    INCOMPATIBLE,
    REFUSED,
    OtherFile,
    OtherFiles,
    OutcomeName,
    SessionResult,
    parse_result,
)
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.trainer.runtime.log_lines import Emit, emit_to_log, warn
from kaggle_manager.trainer.runtime.missing import missing_in
from kaggle_manager.trainer.runtime.output_folder import (
    committed,
    left_of,
    make_room,
    others,
    own_but_not_needed,
)

# In characters: an error's text may hold anything, and the result has a bound.
LONGEST_MESSAGE, LONGEST_EVENT_REASON = 20_000, 300
# Of other files, so many are named; each name has 4,096 characters at most, so the result stays within its bound.
MOST_NAMED = 100


def session_fields(order: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `SessionResult` that say which session it is of, from an order that need not be valid."""
    generation = order.get("generation")
    return {
        "run_id": str(order.get("run_id", "")),
        "generation": generation if isinstance(generation, int) else 0,
        "bundle_sha256": str(order.get("bundle_sha256", "")),
    }


def listed_files_in(order: Mapping[str, Any]) -> int | None:
    """`output_files` of an order that need not be valid."""
    listed = order.get("output_files")
    return listed if isinstance(listed, int) else None


def write_start(working: Path, start: SessionStart) -> None:
    """Write `session_start.json`."""
    _write(working / START_FILE, start)


def write_result(working: Path, result: SessionResult, emit: Emit, listed_files: int | None = None) -> None:
    """Write `session_result.json` with the lists of all other outputs, and tell the end.

    Args:
        listed_files: how many files the platform lists; None for all.
    """
    files, optional = tuple(committed(working, result.run_id)), tuple(own_but_not_needed(working))
    result = result.model_copy(update={"files": files, "optional": optional})
    _write(working / RESULT_FILE, result)  # before what may take a while, and is not needed
    _write_with_others(working, result, listed_files)
    emit(
        ResultEvent(
            run_id=result.run_id,
            generation=result.generation,
            bundle_sha256=result.bundle_sha256,
            outcome=result.outcome,
            reason=result.reason[:LONGEST_EVENT_REASON],
            exit_code=result.exit_code,
            step=result.step,
            output_files=len(files) + len(optional),
        )
    )


def close_folder(order: Mapping[str, Any], exit_code: int) -> None:
    """What `trainer/entry.py` calls after the trainer's process, in one without the user's code.

    Room is made among what the user's code left since the result was written; a result that is not there is written.
    """
    working, listed_files = Path(os.environ["KM_WORKING_DIR"]), listed_files_in(order)
    session = session_fields(order)
    try:
        result = parse_result(Disk().read(working / RESULT_FILE), **session)
    except (OSError, VerificationError):
        why = f"the trainer's process ended with code {exit_code}, and its result is not there"
        outcome: OutcomeName = "crashed"
        if exit_code == 0:  # it ended in good order; what it wrote, the user's code has removed or replaced
            outcome = "interrupted"
        elif exit_code < 0:  # it left no traceback
            why = f"{why}; a signal ended it: {_name_of(-exit_code)}"
        else:
            why = f"{why}; its traceback is in the log"
        result = SessionResult(**session, outcome=outcome, reason=why, exit_code=exit_code)
        emit = emit_to_log(session_tag(session["run_id"], session["generation"]))
        write_result(working, result, emit, listed_files)
        print(why, file=sys.stderr, flush=True)
    else:
        _write_with_others(working, result, listed_files)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, which have no name
        return str(number)


def _write_with_others(working: Path, result: SessionResult, listed_files: int | None) -> None:
    own = {RESULT_FILE, *(entry.name for entry in (*result.files, *result.optional))}
    left = _what_else_is_there(working, own, listed_files)
    if left.count:
        left = left.model_copy(update={"packed": left.packed + result.others.packed})
        _write(working / RESULT_FILE, result.model_copy(update={"others": left}))


def _what_else_is_there(working: Path, own: set[str], listed_files: int | None) -> OtherFiles:
    """What the user's code left, after room was made for the trainer's files among those that a platform lists."""
    try:
        found = others(working, own)
        packed = make_room(working, found, left_of(listed_files) - len(own))
        if packed:
            warn(f"{packed:,} of the {len(found):,} files besides the training's own are now in {OTHERS_ARCHIVE}")
            found = sorted(others(working, own), key=lambda other: other.name != OTHERS_ARCHIVE)  # so that it is named
    except (OSError, ValueError, RecursionError, tarfile.TarError) as error:  # it stands in the way of nothing
        warn(f"what the user's code left could not be looked at: {error}")
        return OtherFiles()
    named = tuple(OtherFile(name=_readable(other.name), size=other.size) for other in found[:MOST_NAMED])
    return OtherFiles(count=len(found), size=sum(other.size for other in found), packed=packed, named=named)


def failure(error: BaseException) -> dict[str, Any]:
    """Outcome, reason, exit code and error of a session that ended in an exception, as `SessionResult` has them."""
    message = _storable(str(error))
    described = traceback.TracebackException.from_exception(error)
    described.__notes__ = None  # type: ignore[attr-defined,unused-ignore] # they come last, and may be another's traceback
    last_line = _storable(list(described.format_exception_only())[-1].strip())
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
        "error": {
            "type": type(error).__name__,
            "message": message,
            "last_line": last_line,
            "missing": missing_in(error),
            **(
                {"input_files": error.input_files, "can_be_accepted": error.can_be_accepted}
                if isinstance(error, CheckpointIncompatible)
                else {}
            ),
        },
    }


def _storable(text: str) -> str:
    """Bounded, and without the halves of characters that a file name may have put into a message."""
    return text[:LONGEST_MESSAGE].encode("utf-8", "replace").decode("utf-8")


def _readable(name: str) -> str:
    """A file's name in characters that can be shown; one that has others is escaped, so that it is no name any more."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(Disk(), path, (json.dumps(document.as_json(), indent=1) + "\n").encode())
