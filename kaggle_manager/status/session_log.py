"""The log of one session: as it was downloaded with its outputs, or live from the platform."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import NotFound
from kaggle_manager.platforms.platform import Platform, SessionRef, SessionState
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.gone import said_where_deleted
from kaggle_manager.sessions.launch import version_of
from kaggle_manager.sessions.log_reader import LogReader
from kaggle_manager.sessions.log_rendering import to_read
from kaggle_manager.sessions.stored_log import LOG_FILE, read_lines
from kaggle_manager.trees.current_run import current_run

# What a live log has by now has come when its next line takes this long, or all of it this long.
_FIRST_LINE_S, _NEXT_LINE_S, _LONGEST_S = 10.0, 1.0, 30.0
# On Windows, Ctrl-C waits for the end of such a wait.
_LONGEST_WAIT_S = 1.0


def session_log(
    config: RunConfig,
    journal: Journal,
    generation: int | None,
    *,
    follow: bool = False,
    tail: int | None = None,
    connect_to: Callable[[RunConfig], Connection],
    reporter: Reporter,
) -> Iterator[str]:
    """The lines of a session's log, events in words.

    Args:
        generation: number of the session; None: the newest.
        follow: of a session that runs, also the lines to come, until it ends.
        tail: of what there is by now, only so many lines, the last ones.

    Raises:
        NotFound: no run of this tree, or no such session.
        RemoteError, AuthError: the log is not here, and the platform does not give it.
    """
    row = current_run(config, journal)
    sessions = journal.sessions(row.run_id) if row else []
    chosen = [s for s in sessions if generation in (None, s.generation)][-1:]
    if row is None or not chosen:
        if not sessions:
            raise NotFound(
                f"{config.scenario_name} has no sessions yet.",
                safe="nothing was changed",
                next_step=config.command("run"),
            )
        raise NotFound(
            f"{config.scenario_name} has no session {generation}; the newest is {sessions[-1].generation}.",
            safe="nothing was changed",
            next_step=config.command("history"),
        )
    session = chosen[0]
    tag = session_tag(session.run_id, session.generation)
    stored = config.downloads / row.run_id / f"generation_{session.generation}" / LOG_FILE
    # Of a session that is not known to have ended, the file is a copy of what a watch has read so far.
    if stored.is_file() and session.stage not in (Stage.INTENDED, Stage.PUSHED):
        yield from _last(to_read(read_lines(stored), tag), tail)
        return
    if session.version is None:
        raise NotFound(
            f"Session {session.generation} was never accepted, so it has no log.",
            safe="nothing was changed",
            next_step=config.command("history"),
        )
    reporter.line(
        f"reading the log of session {session.generation} from the platform"
        + " (Ctrl-C ends this, not the session)" * follow
    )
    client = connect_to(config.at_home(row.platform)).client
    with said_where_deleted(config, journal, row, session, client):
        status = client.status(version_of(row, session))
        if status.state is SessionState.QUEUED:
            why = f": {status.failure_message}" if status.failure_message else ""
            reporter.line(f"session {session.generation} is queued; its log begins when it runs{why}")
            if not follow:
                return
        live = _LiveLog(client, version_of(row, session), session.lane)
        try:
            yield from _last(to_read(live.so_far(), tag), tail)
            if follow:
                yield from to_read(live.to_come(), tag)
        finally:
            live.stop()


def _last(lines: Iterable[str], tail: int | None) -> Iterable[str]:
    return lines if tail is None else deque(lines, maxlen=tail)


class _LiveLog:
    """The log of a session that may still run: first what it has by now, then what comes."""

    def __init__(self, client: Platform, version: SessionRef, lane: str) -> None:
        self._reader, self._is_over = LogReader(client, version, lane=lane), False
        self._reader.start()

    def stop(self) -> None:
        self._reader.stop()

    def so_far(self) -> Iterator[str]:
        wait_s, ends_at = _FIRST_LINE_S, time.monotonic() + _LONGEST_S
        while time.monotonic() < ends_at and (line := self._next(wait_s)) is not None:
            yield line
            wait_s = _NEXT_LINE_S

    def to_come(self) -> Iterator[str]:
        while not self._is_over:
            if (line := self._next(_LONGEST_WAIT_S)) is not None:
                yield line

    def _next(self, wait_s: float) -> str | None:
        """The next line; None when none came in this time, or none will.

        Raises:
            KaggleManagerError: the log cannot be read.
        """
        try:
            line = self._reader.lines.get(timeout=wait_s)
        except queue.Empty:
            if self._reader.trouble is not None:
                raise self._reader.trouble from None
            self._is_over = not self._reader.is_alive() and self._reader.lines.empty()
            return None
        self._is_over = line is None
        return None if line is None else line.text
