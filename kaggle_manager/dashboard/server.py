"""The page over HTTP, for this machine alone.

Promises: listens on 127.0.0.1; answers GET and HEAD, and only when the request names this very address as its host and,
if it has one, its origin - so that neither another page nor a name rebound to this address gets anything; sends a
policy that lets the page load nothing but its own style and script.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import webbrowser
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from kaggle_manager.dashboard.markup import h, join
from kaggle_manager.dashboard.page import STATIC, Asked, document, look
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.errors import ConfigError, KaggleManagerError, NotFound
from kaggle_manager.status.report import error_as_json

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Guard:
    """The outermost layer: who may ask, and the headers of every answer."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}".encode() for name in NAMES} | (
            {name.encode() for name in NAMES} if port == 80 else set()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        app = Response(status_code=403) if self._refuses(scope) else self._app
        await app(scope, receive, send_with_headers)

    def _refuses(self, scope: Scope) -> bool:
        def said(name: bytes) -> list[bytes]:
            return [value for key, value in scope["headers"] if key == name]

        if len(said(b"host")) != 1 or said(b"host")[0] not in self._hosts:
            return True
        if set(said(b"origin")) - {b"http://" + host for host in self._hosts}:
            return True
        # A link on another page may be followed to the page itself.
        return scope["path"] != "/" and bool({b"cross-site", b"same-site"} & set(said(b"sec-fetch-site")))


def create_app(dashboard: Dashboard, port: int) -> Guard:
    """The application, as it answers on `port`."""

    async def page(request: Request) -> Response:
        content = await run_in_threadpool(look, dashboard, _asked(request))
        head = join(
            h("link", rel="stylesheet", href="/static/page.css"), h("script", type="module", src="/static/page.js")
        )
        return Response(document(content, head, live=True), media_type="text/html; charset=utf-8")

    async def parts(request: Request) -> Response:
        """The name and hash of every part, and the markup of those whose hash the page does not name in `have`."""
        content = await run_in_threadpool(look, dashboard, _asked(request))
        hashes = {name: _short_hash(markup) for name, markup in content.parts.items()}
        have = set(request.query_params.get("have", "").split(","))
        changed = {name: markup for name, markup in content.parts.items() if hashes[name] not in have}
        return JSONResponse({"schema": 1, "hashes": hashes, "parts": changed})

    async def status(request: Request) -> Response:
        return _json(request, await run_in_threadpool(dashboard.status))

    async def run(request: Request) -> Response:
        view = await run_in_threadpool(dashboard.run, request.path_params["run_id"])
        return _json(request, view.as_json())

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, KaggleManagerError)
        code = 404 if isinstance(error, NotFound) else 503
        return Response(error_as_json(error), status_code=code, media_type="application/json")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/parts", parts),
            Route("/api/status", status),
            Route("/api/runs/{run_id}", run),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={KaggleManagerError: failed},
    )
    return Guard(app, port)


def _asked(request: Request) -> Asked:
    asked = request.query_params
    return Asked(asked.get("group") or asked.get("run", ""), tuple(asked.getlist("with")))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json(request: Request, data: dict[str, Any]) -> Response:
    """An answer that is not sent again while it is the same."""
    response = JSONResponse(data)
    tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return response


class _Server(uvicorn.Server):
    """Ends without a word: a page that is cut short by the end is no error."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").disabled = True
        await super().shutdown(sockets)


def serve(state: Path, *, port: int = 0, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C or SIGTERM, and say where.

    Args:
        state: folder of the journal; need not exist yet.
        port: TCP port on 127.0.0.1; 0 takes a free one.
        open_browser: show it in the user's browser.

    Raises:
        ConfigError: the port is taken.
    """
    with listen(port) as listening:
        chosen = listening.getsockname()[1]
        address = f"http://{HOST}:{chosen}/"
        print(f"Dashboard of {state.absolute()} on {address} (Ctrl-C ends it)", flush=True)
        if open_browser:
            webbrowser.open(address)
        server = _Server(
            uvicorn.Config(
                create_app(Dashboard(state), chosen),
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="warning",
                timeout_graceful_shutdown=2,
            )
        )
        try:
            asyncio.run(server.serve(sockets=[listening]))
        except KeyboardInterrupt:
            return  # the usual end


def listen(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"Port {port} of {HOST} cannot be used: {error}.",
            safe="nothing was started",
            next_step="name another with --port, or leave it out",
        ) from error
