"""The log of one session: as it was downloaded with its outputs, or live from the platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import NotFound
from kaggle_manager.platforms.platform import SessionState
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.gone import said_where_deleted
from kaggle_manager.sessions.lane import lines_of
from kaggle_manager.sessions.launch import version_of
from kaggle_manager.sessions.log_rendering import to_read
from kaggle_manager.sessions.stored_log import LOG_FILE, read_lines
from kaggle_manager.trees.current_run import current_run


def session_log(
    config: RunConfig,
    journal: Journal,
    generation: int | None,
    *,
    connect_to: Callable[[RunConfig], Connection],
    reporter: Reporter,
) -> Iterator[str]:
    """The lines of a session's log, events in words; a live one is followed to its end.

    Raises:
        NotFound: no run of this tree, or no such session.
        RemoteError, AuthError: the log is not here, and the platform does not give it.
    """
    row = current_run(config, journal)
    sessions = journal.sessions(row.run_id) if row else []
    chosen = [s for s in sessions if generation in (None, s.generation)][-1:]
    if row is None or not chosen:
        what = "No session" if generation is None else f"No session {generation}"
        raise NotFound(
            f"{what} of {config.tree} is known here.",
            next_step=config.command("history"),
        )
    session = chosen[0]
    tag = session_tag(session.run_id, session.generation)
    stored = config.downloads / row.run_id / f"generation_{session.generation}" / LOG_FILE
    # Of a session that is not known to have ended, the file is a copy of what a watch has read so far.
    if stored.is_file() and session.stage not in (Stage.INTENDED, Stage.PUSHED):
        yield from to_read(read_lines(stored), tag)
        return
    if session.version is None:
        raise NotFound(f"Session {session.generation} was never accepted, so it has no log.")
    reporter.line(
        f"the log of session {session.generation} is read from the platform (Ctrl-C ends this, not the session)"
    )
    client = connect_to(config.at_home(row.platform)).client
    with said_where_deleted(config, journal, row, session, client):
        status = client.status(version_of(row, session))
        if status.state is SessionState.QUEUED:
            why = f": {status.failure_message}" if status.failure_message else ""
            reporter.line(f"it is queued, and its log begins when it runs{why}")
        live = client.follow_log(version_of(row, session), stop=lambda: False)
        yield from to_read((line.text for line in lines_of(session.lane, live)), tag)
