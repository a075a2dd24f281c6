"""A Kaggle that answers exactly what a test tells it to, over real HTTP, including what no honest server would say."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials

SECRET = "KGAT_do_not_show_me_0123456789"
TOKEN = Credentials("token", None, SECRET, "a test")
IMPATIENT_S = 0.3
LEGACY = Credentials("legacy", "alice", SECRET, "a test")


@dataclass
class SeenRequest:
    """One request as it arrived."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[["_Handler", SeenRequest], None]


def answer(
    body: Any = None,
    status: int = 200,
    *,
    content_type: str = "application/json",
    claim: int | None = None,
    **headers: str,
) -> Reply:
    """An answer; `claim` is a Content-Length that may lie, header names are written with underscores."""
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()

    def send(handler: _Handler, seen: SeenRequest) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(data) if claim is None else claim))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = claim is not None

    return send


def page(status: int = 200) -> Reply:
    return answer(b"<html><h1>Down for maintenance</h1></html>", status, content_type="text/html")


def reset(handler: _Handler, seen: SeenRequest) -> None:
    """Take the request, then tear the connection down without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def stall(handler: _Handler, seen: SeenRequest) -> None:
    """Say nothing until the client gives up; it waits a moment then, and long where nothing stalls."""
    handler.server.released.wait(10)
    handler.close_connection = True


def serve_file(data: bytes, *, tag: str | None = '"1"', cut: int | None = None, ranges: bool = True) -> Reply:
    """A blob host: ranges, an ETag, and a connection that breaks after `cut` bytes of the body."""

    def send(handler: _Handler, seen: SeenRequest) -> None:
        start = 0
        wanted = seen.headers.get("range")
        same = seen.headers.get("if-range") in (None, tag)
        if wanted and ranges and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                answer(b"", 416)(handler, seen)
                return
        body = data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if tag:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            handler.close_connection = True

    return send


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    released: threading.Event
    kaggle: ScriptedKaggle

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the script."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 * 1024  # headers and body leave together; in two packets each answer would take 40 ms
    server: _Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = SeenRequest(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.server.kaggle.reply(seen)(self, seen)

    do_GET = do_POST = do_PUT = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@dataclass
class ScriptedKaggle:
    """Answers by the last part of the path; the last answer of a script is repeated for ever."""

    seen: list[SeenRequest] = field(default_factory=list)
    read_timeout_s: float = 30.0

    def __enter__(self) -> ScriptedKaggle:
        self._scripts: dict[str, list[Reply]] = defaultdict(list)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.released = threading.Event()
        self._server.kaggle = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.script("IntrospectToken", answer({"active": True, "username": "alice"}))
        self._clients: list[KaggleClient] = []
        self.waits: list[float] = []
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, name: str, *replies: Reply) -> None:
        with self._lock:
            self._scripts[name] = list(replies)
        if stall in replies:
            self.read_timeout_s = IMPATIENT_S

    def reply(self, seen: SeenRequest) -> Reply:
        name = seen.path.split("?")[0].rsplit("/", 1)[-1]
        with self._lock:
            self.seen.append(seen)
            script = self._scripts.get(name) or [answer({"code": 404, "message": f"no script for {name}"}, 404)]
            return script.pop(0) if len(script) > 1 else script[0]

    def asked(self, name: str) -> list[SeenRequest]:
        return [seen for seen in self.seen if seen.path.split("?")[0].endswith(f"/{name}")]

    def client(self, credentials: Credentials = TOKEN, **options: Any) -> KaggleClient:
        """A client whose waiting is only written down, in `waits`."""
        options.setdefault("sleep", self.waits.append)
        options.setdefault("read_timeout_s", self.read_timeout_s)
        client = KaggleClient(credentials, endpoint=self.url, **options)
        self._clients.append(client)
        return client
