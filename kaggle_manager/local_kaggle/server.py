"""The process that serves one root folder on the loopback interface, until it is stopped or no longer used.

One server a folder, guarded by a lock that dies with it. Killing it at any moment loses nothing: sessions go on under
their runners, and the next server finds them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Literal

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from kaggle_manager.errors import ConfigError
from kaggle_manager.local_kaggle import disk
from kaggle_manager.local_kaggle.app import create_app
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.faults.broken_responses import OpenProtocol
from kaggle_manager.local_kaggle.faults.fault_plan import Plan
from kaggle_manager.local_kaggle.faults.middleware import FaultMiddleware
from kaggle_manager.local_kaggle.launcher import THIS_PYTHON
from kaggle_manager.system.command_line import command

_WATCH_S = 1.0


def serve(port: int, root: Path, *, faults: Path | None = None, idle_exit_s: float | None = None) -> None:
    """Serve the folder `root` on 127.0.0.1:`port` until stopped; 0 takes the port used last, or a free one.

    Args:
        port: TCP port, or 0.
        root: the folder of the state; made when missing.
        faults: a plan of faults to play (see `fault_plan`); None: none.
        idle_exit_s: end after this many seconds without a request or a running session; None: never.

    Raises:
        ConfigError: the port is taken, another server uses the folder, or its `limits.json` or the plan is malformed.
        StorageError: the folder cannot be made or written.
    """
    root = root.absolute()
    plan = None if faults is None else Plan.load(faults)
    disk.make_folder(root)
    with disk.hold(root / "server.lock", wait_s=1.0) as mine:  # the one before may be closing
        if not mine:
            raise ConfigError(
                f"Another local Kaggle already serves {root}.",
                safe="It continues undisturbed.",
                next_step=f"use it, or stop it: {command('local-kaggle stop', '--root', root)}",
            )
        with _listen(port, root) as listening:
            _run(listening, root, plan, faults, idle_exit_s)


def _listen(port: int, root: Path) -> socket.socket:
    if port == 0 and (last := disk.read_json(root / "server.json")):
        # Clients in the middle of their work find a restarted server where it was.
        try:
            return bound(int(last["url"].rpartition(":")[2]))
        except OSError:
            pass  # Someone else has it by now; any free port will do.
    try:
        return bound(port)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"Port {port} of 127.0.0.1 cannot be used: {error}.",
            safe="Nothing was started.",
            next_step="Name another port with --port, or 0 for any free one.",
        ) from error


def bound(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1:`port`."""
    # The protocol is named because asyncio sends without delay (TCP_NODELAY) only where it is; else answers take 40 ms.
    listening = socket.socket(proto=socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere this option would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def configuration(app: ASGIApp, *, http: type[asyncio.Protocol] | Literal["h11"] = "h11") -> uvicorn.Config:
    """How uvicorn serves an application here."""
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        access_log=False,  # links carry signatures
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


def _run(
    listening: socket.socket, root: Path, plan: Plan | None, faults: Path | None, idle_exit_s: float | None
) -> None:
    state = ServerState(root, address=f"http://127.0.0.1:{listening.getsockname()[1]}")

    def stop() -> None:
        server.should_exit = True

    app = create_app(state, stop=stop)
    played = FaultMiddleware(app, state, plan) if plan else app
    server = uvicorn.Server(configuration(played, http=OpenProtocol if plan else "h11"))

    async def watch() -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if await run_in_threadpool(state.tidy):
                app.last_request = time.monotonic()  # somebody will come for the result of a running session
            elif idle_exit_s is not None and time.monotonic() - app.last_request > idle_exit_s:
                stop()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await server.serve(sockets=[listening])
            watching.cancel()

    account = state.account
    announcement: dict[str, object] = {
        "url": state.address,
        "username": account.username,
        "token": account.token,
    }
    announcement |= {"root": str(root), "pid": os.getpid(), "faults": faults and str(faults.absolute())}
    announcement["python"] = THIS_PYTHON
    disk.write_json(root / "server.json", announcement, mode=0o600)
    if plan:
        print(f"It is hostile: {len(plan.fault)} faults of {faults} (seed {plan.seed}).", flush=True)
    print(f"Local Kaggle on {state.address}, account '{account.username}', state and secrets in {root}", flush=True)
    try:
        asyncio.run(both())
    except KeyboardInterrupt:
        return  # how the user ends a server in the foreground
    finally:
        state.close()
