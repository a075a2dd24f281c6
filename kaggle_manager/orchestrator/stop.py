"""Stop a run: no session follows the one that runs, and that one is ended when it can be.

Some platforms end a session when asked by an id that the session alone knows, and prints first. Nothing is deleted
before every output of the run is here and verified, and unless that is asked for by name. Needs no lock: another
command may be watching the run, and finds out through the journal. Where that cannot be written, as on a full disk, the
session that it knows is ended all the same, and the error says that the run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, NotFound, StorageError, error_context
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import Platform, SessionRef
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.launch import version_of
from kaggle_manager.sessions.metrics import progress_of
from kaggle_manager.sessions.watch import watch
from kaggle_manager.system.formatting import count, iso


@dataclass(frozen=True)
class Stopped:
    """What came of a stop.

    Attributes:
        cancelled: the platform was asked to end the running session.
        deleted: its sessions on the platform were deleted, with their outputs.
        words: what happens now.
    """

    run_id: str
    cancelled: bool
    deleted: bool
    words: str


@contextmanager
def journal_to_stop(path: Path) -> Iterator[tuple[Journal, StorageError | None]]:
    """The journal; where it cannot be opened to be written, as it can be read, and what refused it.

    Raises:
        StorageError: it cannot be read either.
    """
    refused = None
    try:
        journal = Journal(path)
    except StorageError as error:
        journal, refused = Journal.to_read(path), error
    with closing(journal):
        yield journal, refused


def stop_run(
    config: RunConfig,
    connect_to: Callable[[RunConfig], Connection],
    journal: Journal,
    reporter: Reporter,
    now: float,
    *,
    delete: bool = False,
    refused: StorageError | None = None,
) -> Stopped:
    """Stop the unfinished run of `config`'s tree.

    Args:
        connect_to: asked for a connection once the stop is in the journal, or refused there.
        delete: delete its sessions on the platform as well; refused while anything of them is not here and verified.
        refused: why `journal` cannot be written, when that is known.

    Raises:
        NotFound: nothing is unfinished there.
        ConfigError: `delete` was asked for, and something would be lost.
        RemoteError, AuthError: the platform could not be asked; no session will follow all the same.
        StorageError: the stop could not be written down; the session that runs was ended if it could be.
    """
    row = journal.unfinished_run(config.tree)
    if row is None:
        raise NotFound(
            f"{config.tree} has no unfinished run.",
            safe="nothing was changed",
            next_step=config.command("history"),
        )
    if refused is None:
        try:
            with journal.together():  # one moment: a push under way has written its intent before it, or never will
                newest = _newest(journal, row)
                journal.change_settings(row.run_id, stopped=True)
                journal.note(row.run_id, newest.generation if newest else None, "stop_asked", iso(now))
        except StorageError as error:
            refused = error
    if refused is not None:
        raise _end_unwritten(config, connect_to, reporter, row, journal, refused) from refused
    if newest is None or newest.stage is Stage.CLOSED:
        if delete:
            _check_all_is_here(config, newest)
            _check_only_its_own(journal, row)
            _connected(config, connect_to, row).client.delete(row.owner, row.slug)
        words = "no session runs, and none follows" + "; its sessions on the platform are deleted" * delete
        return Stopped(row.run_id, cancelled=False, deleted=delete, words=words)
    if delete:
        raise ConfigError(
            f"Session {newest.generation} is not restored yet: deleting it would lose what it has saved.",
            safe="no session follows it; nothing was deleted",
            next_step=f"{config.command('tick')}\n  until it is closed, then "
            f"{config.command('stop', '--delete', '--yes')}",
        )
    if newest.version is None:
        words = "whether its last push was accepted is not known; the next tick looks, and ends that session if it was"
        return Stopped(row.run_id, cancelled=False, deleted=False, words=words)
    said = _end(config, connect_to, reporter, row, newest, journal)
    if said.is_settled:
        for session in (newest, *journal.sharing(newest)):
            journal.add_facts(session, cancel_asked=True)
    return Stopped(row.run_id, cancelled=said.is_done, deleted=False, words=said.words)


def _check_all_is_here(config: RunConfig, newest: SessionRow | None) -> None:
    """Refuse to delete what a session saved and nobody could restore.

    Raises:
        ConfigError
    """
    if newest is not None and newest.was_given_up:
        raise ConfigError(
            f"What session {newest.generation} saved was never restored ({newest.why}): deleting it would lose that.",
            safe="no session follows; nothing was deleted",
            next_step=f"{config.command('download')}\n  or delete it on the platform's own page",
        )


def _check_only_its_own(journal: Journal, row: RunRow) -> None:
    """Refuse to delete sessions in which other runs have what is not brought home yet.

    Raises:
        ConfigError
    """
    for other in journal.open_at(row.address):
        raise ConfigError(
            f"Session {other.generation} of run {other.run_id} is not restored yet, and was started as "
            f"{row.address}: deleting that would lose what it has saved.",
            safe="no session follows; nothing was deleted",
            next_step="let a `run` or `tick` of that run bring it home, and run the same command again",
        )


def _newest(journal: Journal, row: RunRow) -> SessionRow | None:
    return next(iter(journal.sessions(row.run_id, newest=1)), None)


def _end_unwritten(
    config: RunConfig,
    connect_to: Callable[[RunConfig], Connection],
    reporter: Reporter,
    row: RunRow,
    journal: Journal,
    refused: StorageError,
) -> StorageError:
    """End the session that the journal knows, and return what is to be said of a stop that nobody will find there."""
    newest = _newest(journal, row)
    unwritten = (
        f"That run {row.run_id} is stopped could not be written down, so a `run`, a `tick` or a schedule continues "
    )
    unwritten += f"with it. {refused.message}"
    done = "No session of it is known to run."
    if newest is not None and newest.stage is not Stage.CLOSED and newest.version is not None:
        with error_context(message=lambda text: f"{text}\n{unwritten}"):
            said = _end(config, connect_to, reporter, row, newest, journal)
        done = f"The platform was asked to end session {newest.generation}." if said.is_done else f"{said.words}."
    return StorageError(
        f"{done} {unwritten}",
        safe="what was saved, here and on the platform; nothing was deleted",
        next_step=f"switch its schedule off, {refused.next_step}: {config.command('stop')}",
    )


def _end(
    config: RunConfig,
    connect_to: Callable[[RunConfig], Connection],
    reporter: Reporter,
    row: RunRow,
    newest: SessionRow,
    journal: Journal,
) -> Cancelled:
    """Ask the platform, where the run is, to end its newest session, unless other runs that go on share it."""
    if shared := _shared_with(journal, newest):
        return shared
    connection = _connected(config, connect_to, row)
    container = progress_of(newest).container or _ask_log(connection, reporter, row, newest)
    return cancel(connection.client, version_of(row, newest), newest, container)


def _connected(config: RunConfig, connect_to: Callable[[RunConfig], Connection], row: RunRow) -> Connection:
    """Where the run is: nothing of that number is ended or deleted anywhere else."""
    connection = connect_to(config.at_home(row.platform))
    if (connection.platform, connection.owner) != (row.platform, row.owner):
        raise ConfigError(
            f"Run {row.run_id} is on {row.platform} as {row.owner}, and this command would use {connection.platform} "
            f"as {connection.owner} ({connection.why}).",
            safe="no session follows the one that runs; nothing was ended or deleted",
            next_step=config.command("stop", "--platform", row.platform),
        )
    return connection


@dataclass(frozen=True)
class Cancelled:
    """What came of asking the platform to end a session: `is_settled` when asking again would change nothing."""

    is_done: bool
    is_settled: bool
    words: str


def cancel(client: Platform, version: SessionRef, session: SessionRow, container: str) -> Cancelled:
    """Ask the platform to end a running session, by what it is called there or by the name that it printed.

    Raises:
        RemoteError, AuthError: the platform could not be asked.
    """
    number = session.generation
    try:
        is_asked = client.cancel(version, container)
    except NotFound as error:
        said = error.message.rstrip(".")
        words = f"there is nothing to end on the platform ({said}): session {number} has ended, or ends by itself at "
        words += "its deadline; the next `tick` or `run` restores what it had saved, and no session follows"
        return Cancelled(is_done=False, is_settled=True, words=words)
    if not is_asked:
        words = f"session {number} has not told its id yet: a tick or `run` that sees it ends the session"
        return Cancelled(is_done=False, is_settled=False, words=words)
    words = f"the platform was asked to end session {number}; the next `tick` or `run` restores what it had saved, "
    return Cancelled(is_done=True, is_settled=True, words=words + "and no session follows")


def _shared_with(journal: Journal, session: SessionRow) -> Cancelled | None:
    """Why a session is not ended that other runs share; None for one that may be ended: each of them is stopped."""
    others = [each for each in journal.sharing(session) if not journal.run(each.run_id).stop_asked]
    if not others:
        return None
    words = (
        f"session {session.generation} is shared with {count(len(others), 'run')} that "
        f"{'continues' if len(others) == 1 else 'continue'}, so it ends at its deadline; no session follows"
    )
    return Cancelled(is_done=False, is_settled=False, words=words)


def end_if_stopped(run: RunContext) -> None:
    """End the running session of a run that was asked to stop: its push was under way then, perhaps."""
    session = run.newest_session()
    if not run.row.stop_asked or session.facts.get("cancel_asked") or _shared_with(run.state.journal, session):
        return
    said = cancel(run.connection.client, run.version_of(session), session, progress_of(session).container)
    if said.is_settled:
        run.state.add_facts(session, cancel_asked=True)
        for other in run.state.journal.sharing(session):
            run.state.journal.add_facts(other, cancel_asked=True)
        run.reporter.line(f"  {said.words}")


def _ask_log(connection: Connection, reporter: Reporter, row: RunRow, session: SessionRow) -> str:
    seen = [progress_of(session)]
    watch(
        connection.client,
        version_of(row, session),
        reporter,
        tag=session_tag(session.run_id, session.generation),
        bundle_sha256=session.bundle_sha256,
        lane=session.lane,
        until=0.0,
        on_seen=seen.append,
    )
    return seen[-1].container
