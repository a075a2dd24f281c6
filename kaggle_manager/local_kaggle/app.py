"""The HTTP face: which request reaches which service, and who may ask.

The same calls answer under `/v1/...` (as on api.kaggle.com) and `/api/v1/...`, also when a client takes this server for
a proxy and sends whole addresses. Links that were signed need no credentials; everything else does.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaggle_manager.local_kaggle import logs
from kaggle_manager.local_kaggle.blobs import Blobs
from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.datasets import Datasets
from kaggle_manager.local_kaggle.kernels import Kernels
from kaggle_manager.local_kaggle.outputs import Outputs
from kaggle_manager.local_kaggle.pushes import Pushes
from kaggle_manager.local_kaggle.serialization import Body, bad_request, not_found
from kaggle_manager.local_kaggle.shelf import Shelf

# The largest request of the API is a kernel's source, of which Kaggle takes less than 1 MB.
LARGEST_BODY = 8 * 1024**2
# A body of which nothing comes for so long is given up, with what holds it.
STALLED_BODY_S = 60.0
# What may be asked without credentials is about one token.
_LARGEST_QUESTION = 64 * 1024
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_KERNELS, _DATASETS = "kernels.KernelsApiService", "datasets.DatasetApiService"


class Front:
    """The outermost layer: understands whole addresses and `/api`, and remembers when the last request came.

    Answers only who calls this machine by its own name: a page in a browser, whose host resolves to it, does not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.last_request = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.last_request = time.monotonic()
            path: str = scope["path"]
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if path.startswith("http://"):
                host, _, rest = path.removeprefix("http://").partition("/")
                path = f"/{rest}"
                hosts.append(host)
            if not hosts or any(_HOST.fullmatch(host) is None for host in hosts):
                refusal = HTTPException(421, "This server answers to the names of its own machine only")
                await (await _refusal(Request(scope), refusal))(scope, receive, send)
                return
            if path.startswith("/api/v1/"):
                path = path.removeprefix("/api")
            scope = {**scope, "path": path, "raw_path": path.encode()}
            receive = _in_time(receive)
        await self._app(scope, receive, send)


def _in_time(receive: Receive) -> Receive:
    """`receive`, that waits only so long for the next part of a request's body."""
    has_more = True

    async def receive_in_time() -> Message:
        nonlocal has_more
        try:
            async with asyncio.timeout(STALLED_BODY_S if has_more else None):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"Nothing of the request's body came for {STALLED_BODY_S:g} s") from error
        has_more = message["type"] == "http.request" and bool(message.get("more_body"))
        return message

    return receive_in_time


def create_app(state: ServerState, *, stop: Callable[[], None] | None = None) -> Front:
    """The application over `state`. `stop` is called when the account's owner asks the server to end."""
    pushes, kernels, outputs, blobs = Pushes(state), Kernels(state), Outputs(state), Blobs(state)
    shelf = Shelf(state.root)
    datasets = Datasets(state, blobs, shelf)
    calls: dict[tuple[str, str], Callable[[Body], Body]] = {
        (_KERNELS, "SaveKernel"): pushes.save_kernel,
        (_KERNELS, "GetKernel"): kernels.get_kernel,
        (_KERNELS, "ListKernels"): kernels.list_kernels,
        (_KERNELS, "GetKernelSessionStatus"): kernels.get_kernel_session_status,
        (_KERNELS, "ListKernelSessionOutput"): outputs.list_kernel_session_output,
        (_KERNELS, "ListKernelFiles"): outputs.list_kernel_files,
        (_KERNELS, "DeleteKernel"): kernels.delete_kernel,
        (_KERNELS, "CancelKernelSession"): kernels.cancel_kernel_session,
        (_KERNELS, "GetAcceleratorQuotaStatistics"): kernels.get_accelerator_quota_statistics,
        (_DATASETS, "CreateDataset"): datasets.create_dataset,
        (_DATASETS, "CreateDatasetVersion"): datasets.create_dataset_version,
        (_DATASETS, "CreateDatasetVersionById"): datasets.create_dataset_version_by_id,
        (_DATASETS, "ListDatasets"): datasets.list_datasets,
        (_DATASETS, "GetDataset"): datasets.get_dataset,
        (_DATASETS, "GetDatasetStatus"): datasets.get_dataset_status,
        (_DATASETS, "GetDatasetMetadata"): datasets.get_dataset_metadata,
        (_DATASETS, "ListDatasetFiles"): datasets.list_dataset_files,
        (_DATASETS, "DeleteDataset"): datasets.delete_dataset,
        ("competitions.CompetitionApiService", "ListDataFiles"): shelf.list_data_files,
        ("models.ModelApiService", "GetModelInstance"): shelf.get_model_instance,
        ("blobs.BlobApiService", "StartBlobUpload"): blobs.start_blob_upload,
    }
    redirects = {
        (_KERNELS, "DownloadKernelOutput"): outputs.download_kernel_output,
        (_DATASETS, "DownloadDataset"): datasets.download_dataset,
    }

    def require_credentials(request: Request) -> None:
        if not state.account.accepts(request.headers.get("authorization", "")):
            raise HTTPException(401, "Unauthenticated")

    def require_signature(request: Request) -> None:
        given = request.query_params
        expires, signature = given.get("expires", ""), given.get("signature", "")
        path = request.scope["path"]
        if not expires.isdigit() or not state.account.signed(path, expires, signature, state.clock()):
            raise HTTPException(403, f"The link to {path} has expired or was not made here")

    async def call(request: Request) -> Response:
        name = (request.path_params["service"], request.path_params["method"])
        asks_about_token = name == ("security.OAuthService", "IntrospectToken")
        if not (asks_about_token or state.account.accepts(request.headers.get("authorization", ""))):
            await _discard(request)
            raise HTTPException(401, "Unauthenticated")
        body = await _json(request, _LARGEST_QUESTION if asks_about_token else LARGEST_BODY)
        if asks_about_token:
            active = state.account.owns_token(str(body.get("token") or ""))
            return JSONResponse({"active": active, "username": state.account.username if active else ""})
        if name in redirects:
            return RedirectResponse(await run_in_threadpool(redirects[name], body), status_code=302)
        if name == (_KERNELS, "GetKernelSessionLogsStream"):
            return await logs.respond(state, body)
        if name not in calls:
            raise HTTPException(501, f"{'/'.join(name)} does not exist on the local Kaggle")
        return JSONResponse(await run_in_threadpool(calls[name], body))

    async def log_stream(request: Request) -> Response:
        require_credentials(request)
        body = {
            "userName": request.path_params["owner"],
            "kernelSlug": request.path_params["slug"],
            "versionLabel": request.query_params.get("versionLabel"),
        }
        return await logs.respond(state, body)

    async def upload(request: Request) -> Response:
        require_signature(request)
        return await blobs.put(request)

    async def file(request: Request) -> Response:
        require_signature(request)
        kind, number, rest = (request.path_params[name] for name in ("kind", "number", "rest"))
        home = {"session": state.session_folder(number) / "working", "dataset": state.root / "datasets" / str(number)}
        if kind not in home:
            raise not_found("The file")
        path = (home[kind] / rest).resolve()
        if not path.is_relative_to(home[kind].resolve()) or not path.is_file():
            raise not_found("The file")
        return FileResponse(path, media_type="application/octet-stream", stat_result=path.stat())

    async def health(_: Request) -> Response:
        return JSONResponse({"service": "local-kaggle", "pid": os.getpid(), "root": str(state.root)})

    async def end(request: Request) -> Response:
        require_credentials(request)
        if stop is None:
            raise HTTPException(501, "This server is ended by the process that started it")
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


async def _json(request: Request, largest: int) -> Body:
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > largest:
            raise HTTPException(413, f"A request has at most {largest:,} bytes")
    try:
        body = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise bad_request("The body is not JSON, or too deep") from error
    if not isinstance(body, dict):
        raise bad_request("The body is not a JSON object")
    return body


async def _discard(request: Request) -> None:
    """Take a body that nobody reads, so that its sender comes to see the answer; only so much of it."""
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > LARGEST_BODY:
            return


async def _refusal(_: Request, refusal: HTTPException) -> Response:
    return JSONResponse({"code": refusal.status_code, "message": refusal.detail}, status_code=refusal.status_code)
