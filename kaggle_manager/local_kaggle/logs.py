"""The log of a session over HTTP: server-sent events while it runs, the kept JSON array once it ended.

Every stream starts at the first line, also after a reconnect: clients skip by count what they have seen. Never ends a
stream before the session did, except when the client leaves.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from kaggle_manager.local_kaggle.kernels import Kernels
from kaggle_manager.local_kaggle.wire import Body, denied
from kaggle_manager.local_kaggle.world import World

_POLL_S = 0.1
_KEEP_ALIVE_S = 15.0


async def respond(world: World, kernels: Kernels, body: Body) -> Response:
    """The answer to `GetKernelSessionLogsStream`, by session id or by kernel and version label."""
    row = await run_in_threadpool(_find, world, kernels, body)
    if row["ended_at"] is not None:
        return Response(kernels.log(row) or "[]", media_type="application/json")
    return StreamingResponse(_events(world, row["id"]), media_type="text/event-stream")


def _find(world: World, kernels: Kernels, body: Body) -> sqlite3.Row:
    with world.transaction() as database:
        if not body.get("kernelSessionId"):
            return kernels.session(database, body)
        row: sqlite3.Row | None = database.execute(
            "SELECT s.* FROM sessions s JOIN kernels k ON k.id = s.kernel_id WHERE s.id = ? AND k.deleted_at IS NULL",
            (int(body["kernelSessionId"]),),
        ).fetchone()
    if row is None:
        raise denied("kernels.get")
    return row


def _ended(world: World, session_id: int) -> bool:
    with world.transaction() as database:
        row = database.execute("SELECT ended_at FROM sessions WHERE id = ?", (session_id,)).fetchone()
    return row is None or row["ended_at"] is not None


async def _events(world: World, session_id: int) -> AsyncIterator[bytes]:
    path = world.session_folder(session_id) / "log.jsonl"
    position, quiet_s = 0, 0.0
    while True:
        # Asked before reading: what was printed before the end is read after it.
        ended = await run_in_threadpool(_ended, world, session_id)
        text = b""
        if path.exists():
            with path.open("rb") as stream:
                stream.seek(position)
                text = stream.read()
        complete = text[: text.rfind(b"\n") + 1]
        position += len(complete)
        for line in complete.splitlines():
            yield b"data: " + line + b"\n\n"
        if ended:
            yield b"data: END_OF_LOG\n\n"
            return
        quiet_s = 0.0 if complete else quiet_s + _POLL_S
        if quiet_s >= _KEEP_ALIVE_S:
            yield b": still running\n\n"
            quiet_s = 0.0
        await asyncio.sleep(_POLL_S)
