"""The HTTP face: which request reaches which service, who may ask, and the process that serves it on loopback.

The same calls answer under `/v1/...` (as on api.kaggle.com) and `/api/v1/...`, also when a client takes this server for
a proxy and sends whole addresses. Links that were signed need no credentials; everything else does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kaggle_manager.errors import ConfigError, StorageError
from kaggle_manager.local_kaggle import disk, logs
from kaggle_manager.local_kaggle.blobs import Blobs
from kaggle_manager.local_kaggle.datasets import Datasets
from kaggle_manager.local_kaggle.kernels import Kernels
from kaggle_manager.local_kaggle.wire import Body, bad_request, not_found
from kaggle_manager.local_kaggle.world import World

_KERNELS, _DATASETS = "kernels.KernelsApiService", "datasets.DatasetApiService"


class Front:
    """The outermost layer: understands whole addresses and `/api`, and remembers when the last request came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.last_request = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.last_request = time.monotonic()
            path: str = scope["path"]
            if path.startswith("http://"):
                path = "/" + path.removeprefix("http://").partition("/")[2]
            if path.startswith("/api/v1/"):
                path = path.removeprefix("/api")
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


def create_app(world: World, *, stop: Callable[[], None] | None = None) -> Front:
    """The application over `world`. `stop` is called when the account's owner asks the server to end."""
    kernels, blobs = Kernels(world), Blobs(world)
    datasets = Datasets(world, blobs)
    calls: dict[tuple[str, str], Callable[[Body], Body]] = {
        (_KERNELS, "SaveKernel"): kernels.save_kernel,
        (_KERNELS, "GetKernel"): kernels.get_kernel,
        (_KERNELS, "ListKernels"): kernels.list_kernels,
        (_KERNELS, "GetKernelSessionStatus"): kernels.get_kernel_session_status,
        (_KERNELS, "ListKernelSessionOutput"): kernels.list_kernel_session_output,
        (_KERNELS, "ListKernelFiles"): kernels.list_kernel_files,
        (_KERNELS, "DeleteKernel"): kernels.delete_kernel,
        (_KERNELS, "CancelKernelSession"): kernels.cancel_kernel_session,
        (_KERNELS, "GetAcceleratorQuotaStatistics"): kernels.get_accelerator_quota_statistics,
        (_DATASETS, "CreateDataset"): datasets.create_dataset,
        (_DATASETS, "CreateDatasetVersion"): datasets.create_dataset_version,
        (_DATASETS, "CreateDatasetVersionById"): datasets.create_dataset_version_by_id,
        (_DATASETS, "GetDataset"): datasets.get_dataset,
        (_DATASETS, "GetDatasetStatus"): datasets.get_dataset_status,
        (_DATASETS, "GetDatasetMetadata"): datasets.get_dataset_metadata,
        (_DATASETS, "ListDatasetFiles"): datasets.list_dataset_files,
        (_DATASETS, "DeleteDataset"): datasets.delete_dataset,
        ("blobs.BlobApiService", "StartBlobUpload"): blobs.start_blob_upload,
    }
    redirects = {
        (_KERNELS, "DownloadKernelOutput"): kernels.output_link,
        (_DATASETS, "DownloadDataset"): datasets.download_link,
    }

    def authorised(request: Request) -> None:
        if not world.account.accepts(request.headers.get("authorization", "")):
            raise HTTPException(401, "Unauthenticated")

    def vouched_for(request: Request) -> None:
        given = request.query_params
        expires, signature = given.get("expires", ""), given.get("signature", "")
        path = request.url.path
        if not expires.isdigit() or not world.account.vouches_for(
            request.scope["path"], expires, signature, world.clock()
        ):
            raise HTTPException(403, f"The link to {path} has expired or was not made here")

    async def call(request: Request) -> Response:
        name = (request.path_params["service"], request.path_params["method"])
        body = await _json(request)
        if name == ("security.OAuthService", "IntrospectToken"):
            active = world.account.owns_token(str(body.get("token") or ""))
            return JSONResponse({"active": active, "username": world.account.username if active else ""})
        authorised(request)
        if name in redirects:
            return RedirectResponse(await run_in_threadpool(redirects[name], body), status_code=302)
        if name == (_KERNELS, "GetKernelSessionLogsStream"):
            return await logs.respond(world, kernels, body)
        if name not in calls:
            raise HTTPException(501, f"{'/'.join(name)} does not exist on the local Kaggle")
        return JSONResponse(await run_in_threadpool(calls[name], body))

    async def log_stream(request: Request) -> Response:
        authorised(request)
        body = {
            "userName": request.path_params["owner"],
            "kernelSlug": request.path_params["slug"],
            "versionLabel": request.query_params.get("versionLabel"),
        }
        return await logs.respond(world, kernels, body)

    async def upload(request: Request) -> Response:
        vouched_for(request)
        return await blobs.put(request)

    async def file(request: Request) -> Response:
        vouched_for(request)
        kind, number, rest = (request.path_params[name] for name in ("kind", "number", "rest"))
        home = {"session": world.session_folder(number) / "working", "dataset": world.root / "datasets" / str(number)}
        if kind not in home:
            raise not_found("The file")
        path = (home[kind] / rest).resolve()
        if not path.is_relative_to(home[kind].resolve()) or not path.is_file():
            raise not_found("The file")
        return FileResponse(path, media_type="application/octet-stream")

    async def health(_: Request) -> Response:
        return JSONResponse({"service": "local-kaggle", "pid": os.getpid(), "root": str(world.root)})

    async def end(request: Request) -> Response:
        authorised(request)
        if stop is None:
            raise HTTPException(501, "This server is ended by whoever started it")
        stop()
        return JSONResponse({})

    routes = [
        Route("/v1/kernels/logs/stream/{owner}/{slug}", log_stream),
        Route("/v1/{service}/{method}", call, methods=["POST"]),
        Route("/upload/{token}", upload, methods=["PUT"]),
        Route("/files/{kind}/{number:int}/{rest:path}", file),
        Route("/local/health", health),
        Route("/local/stop", end, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _refusal}
    return Front(Starlette(routes=routes, exception_handlers=handlers))


async def _json(request: Request) -> Body:
    text = await request.body()
    try:
        body = json.loads(text) if text else {}
    except ValueError as error:
        raise bad_request("The body is not JSON") from error
    if not isinstance(body, dict):
        raise bad_request("The body is not a JSON object")
    return body


async def _refusal(_: Request, refusal: HTTPException) -> Response:
    return JSONResponse({"code": refusal.status_code, "message": refusal.detail}, status_code=refusal.status_code)


def serve(port: int, root: Path, *, idle_exit_s: float | None = None) -> None:
    """Serve the world in `root` on 127.0.0.1:`port` until stopped; 0 takes the port used last, or a free one.

    Args:
        port: TCP port, or 0.
        root: the folder of the world; made when missing.
        idle_exit_s: end by itself after so many seconds without a request and without a running session; None: never.

    Raises:
        ConfigError: the port is taken, another server uses the folder, or its `limits.json` is malformed.
        StorageError: the folder cannot be made or written.
    """
    root = root.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = disk.hold(root / "server.lock")
        mine = lock.__enter__()
    except OSError as error:
        raise StorageError(
            f"The local Kaggle cannot use the folder {root}: {error.strerror}.",
            safe="Nothing was started.",
            next_step="Name a folder you can write to with --root.",
        ) from error
    try:
        if not mine:
            raise ConfigError(
                f"Another local Kaggle already serves {root}.",
                safe="It goes on undisturbed.",
                next_step="Use it, or stop it with `kaggle-manager local-kaggle stop`.",
            )
        _serve(_listen(port, root), root, idle_exit_s)
    finally:
        lock.__exit__(None, None, None)


def _listen(port: int, root: Path) -> socket.socket:
    # A client in the middle of its work finds a restarted server where it was.
    before = (disk.read_json(root / "server.json") or {}).get("url", "").rpartition(":")[2] if port == 0 else ""
    candidates = [int(before), 0] if before else [port]
    for candidate in candidates:
        listening = socket.socket()
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", candidate))
        except OSError as error:
            listening.close()
            if candidate != candidates[-1]:
                continue
            raise ConfigError(
                f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.",
                safe="Nothing was started.",
                next_step="Name another port with --port, or 0 for any free one.",
            ) from error
        return listening
    raise AssertionError("unreachable: the last candidate returns or raises")


def _serve(listening: socket.socket, root: Path, idle_exit_s: float | None) -> None:
    world = World(root)
    world.address = f"http://127.0.0.1:{listening.getsockname()[1]}"

    def stop() -> None:
        server.should_exit = True

    app = create_app(world, stop=stop)

    async def watch() -> None:
        while True:
            await asyncio.sleep(1.0)
            alive = await run_in_threadpool(world.tidy)
            if alive:
                app.last_request = time.monotonic()
            elif idle_exit_s is not None and time.monotonic() - app.last_request > idle_exit_s:
                stop()

    async def run() -> None:
        watching = asyncio.create_task(watch())
        try:
            await server.serve(sockets=[listening])
        finally:
            watching.cancel()

    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", access_log=False, log_level="warning", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    listening.listen()
    announcement = {"url": world.address, "username": world.account.username, "token": world.account.token}
    disk.write_json(root / "server.json", announcement | {"root": str(root), "pid": os.getpid()}, mode=0o600)
    try:
        asyncio.run(run())
    finally:
        world.close()
