"""The log of a session over HTTP: server-sent events while it runs, the kept JSON array once it ended.

Every stream starts at the first line, also after a reconnect: clients skip by count what they have seen. Never ends a
stream before the session did, except when the client leaves.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.outputs import kept_log
from kaggle_manager.local_kaggle.serialization import Body, whole_number
from kaggle_manager.local_kaggle.sessions import session_by_id, session_of

_POLL_S = 0.1
_KEEP_ALIVE_S = 15.0
# In bytes: of a long log, what is in memory at a time.
_AT_ONCE = 1 << 20


async def respond(state: ServerState, body: Body) -> Response:
    """The answer to `GetKernelSessionLogsStream`, by session id or by kernel and version label."""
    row = await run_in_threadpool(_find, state, body)
    if row["ended_at"] is not None:
        return Response(kept_log(state, row) or "[]", media_type="application/json")
    return StreamingResponse(_events(state, row["id"]), media_type="text/event-stream")


def _find(state: ServerState, body: Body) -> sqlite3.Row:
    with state.transaction() as database:
        if session_id := whole_number(body, "kernelSessionId"):
            return session_by_id(database, session_id, "kernels.get")
        return session_of(state, database, body)


def _ended(state: ServerState, session_id: int) -> bool:
    with state.transaction() as database:
        row = database.execute("SELECT ended_at FROM sessions WHERE id = ?", (session_id,)).fetchone()
    return row is None or row["ended_at"] is not None


async def _events(state: ServerState, session_id: int) -> AsyncIterator[bytes]:
    path = state.session_folder(session_id) / "log.jsonl"
    position, quiet_s = 0, 0.0
    while True:
        # Asked before reading: what was printed before the end is read after it.
        ended = await run_in_threadpool(_ended, state, session_id)
        lines = await run_in_threadpool(_lines_from, path, position)
        position += sum(map(len, lines))
        for line in lines:
            yield b"data: " + line.rstrip(b"\n") + b"\n\n"
        if ended and not lines:
            yield b"data: END_OF_LOG\n\n"
            return
        quiet_s = 0.0 if lines else quiet_s + _POLL_S
        if quiet_s >= _KEEP_ALIVE_S:
            yield b": still running\n\n"
            quiet_s = 0.0
        if not lines:
            await asyncio.sleep(_POLL_S)


def _lines_from(path: Path, position: int) -> list[bytes]:
    """Whole lines from there on, about as many as `_AT_ONCE`; none when there is no whole one yet."""
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            return [line for line in stream.readlines(_AT_ONCE) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []
