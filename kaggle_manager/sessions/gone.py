"""What a session left whose kernel was deleted: said in words, where the platform says no more than 403."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kaggle_manager.config import RunConfig
from kaggle_manager.errors import NotFound, RemoteError
from kaggle_manager.platforms.platform import Platform
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sessions.launch import version_of


def cleaned_note(kind: str, address: str) -> str:
    """What `clean` writes down of a kernel or dataset that it has deleted."""
    return f"{kind} {address}"


@contextmanager
def said_where_deleted(
    config: RunConfig, journal: Journal, row: RunRow, session: SessionRow, client: Platform
) -> Iterator[None]:
    """Ask inside for what `session` left on the platform; where its kernel was deleted, that is what is said.

    Raises:
        NotFound: it was deleted, by `clean` or otherwise; says where what it saved is. Else what is raised inside.
    """
    version = version_of(row, session)
    address = f"{version.owner}/{version.slug}"
    events = journal.events(row.run_id, "cleaned")
    deleted = [event["at"] for event in events if event["detail"].get("what") == cleaned_note("session", address)]
    if deleted and deleted[-1] >= session.started_at:  # what has its name by now is another kernel
        raise _deleted(config, row, session, f"`clean` deleted its kernel {address} on {deleted[-1][:10]}")
    try:
        yield
    except NotFound as error:
        try:
            is_there = client.newest(version.owner, version.slug) is not None
        except RemoteError:
            raise error from None
        if is_there:
            raise
        why = f"{row.platform} has no kernel {address} any more: it was deleted there, or by a `clean`"
        raise _deleted(config, row, session, why) from error


def _deleted(config: RunConfig, row: RunRow, session: SessionRow, why: str) -> NotFound:
    folder = config.downloads / row.run_id / f"generation_{session.generation}"
    downloaded = f", and what was downloaded of it before is in {folder}" if folder.is_dir() else ""
    return NotFound(
        f"What session {session.generation} of run {row.run_id} left is not on {row.platform} any more: {why}.",
        safe=f"nothing was changed here: what its run has restored is in {row.tree} or a copy of it{downloaded}",
        next_step=f"nothing can be downloaded; what is here, kept copies included: {config.command('checkpoints ls')}",
    )
