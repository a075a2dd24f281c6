"""The end of a session's log, as far as it has come to this machine, and the points its machine-readable lines tell.

Claims of the log alone, shown as such: nothing here is verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent, parse_event, session_tag
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.log_rendering import to_read
from kaggle_manager.sessions.stored_log import LOG_FILE, read_tail
from kaggle_manager.trees.curves import LARGEST

TAIL_BYTES, TAIL_LINES = 256_000, 300
LONGEST_LINE = 2000


@dataclass(frozen=True)
class LogTail:
    """The newest lines of the newest log that is here.

    Attributes:
        generation: whose; None when there is none.
        running: whether that session still runs.
        whole: whether these are all its lines.
        progress, evaluations: (step, value) told by the log of a running session: mean return, evaluation score.
    """

    generation: int | None = None
    running: bool = False
    whole: bool = True
    lines: tuple[str, ...] = ()
    progress: tuple[tuple[int, float], ...] = ()
    evaluations: tuple[tuple[int, float], ...] = ()


def read_log(downloads: Path, sessions: Sequence[SessionRow]) -> LogTail:
    """The log of the newest session that has one; `downloads` is the folder of the run's sessions."""
    for session in reversed(sessions):
        found = _tail(downloads / f"generation_{session.generation}" / LOG_FILE)
        if found is None:
            continue
        lines, whole = found
        tag = session_tag(session.run_id, session.generation)
        # Of a session that is restored, the curves in the tree say more than its log.
        told = [] if session.stage is Stage.CLOSED else [event for line in lines if (event := parse_event(line, tag))]
        return LogTail(
            generation=session.generation,
            running=session.stage in (Stage.INTENDED, Stage.PUSHED),
            whole=whole,
            lines=tuple(to_read(lines, tag)),
            progress=_points((event.step, event.reward) for event in told if isinstance(event, ProgressEvent)),
            evaluations=_points((event.step, event.score) for event in told if isinstance(event, EvaluationEvent)),
        )
    return LogTail()


def _tail(path: Path) -> tuple[tuple[str, ...], bool] | None:
    try:
        lines, whole = read_tail(path, TAIL_BYTES)
    except OSError:
        return None
    kept = lines[-TAIL_LINES:]
    return tuple(line[:LONGEST_LINE] for line in kept), whole and len(kept) == len(lines)


def _points(told: Iterable[tuple[int, float | None]]) -> tuple[tuple[int, float], ...]:
    return tuple((step, value) for step, value in told if value is not None and abs(value) < LARGEST)
