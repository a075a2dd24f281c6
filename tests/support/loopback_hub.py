"""A stand-in for the Hugging Face Hub's HTTP API, over real HTTP on loopback: as much of it as publishing a model uses.

Written after what the official library sends and reads: repositories, small files in commits, large ones through the
protocol of Git LFS, and files by their version. One user, whose token is the only one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

USER = "me"
LARGE = (".zip", ".pkl", ".npz", ".mp4")
"""How the names end whose files the Hub keeps by Git LFS, whatever their size."""


class Repository:
    """The commits of one: each is all files by name."""

    def __init__(self, *, private: bool) -> None:
        self.private = private
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.commit({".gitattributes": b"*.zip filter=lfs\n"})

    def commit(self, files: Mapping[str, bytes]) -> str:
        oid = hashlib.sha1(json.dumps([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits.append((oid, dict(files)))
        return oid

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        found = [commit for commit in self.commits if revision in (commit[0], "main")]
        return found[-1]


class Hub(ThreadingHTTPServer):
    """The server, and what it has.

    Attributes:
        repositories: by OWNER/NAME.
        large: files by their SHA-256.
        refuses: a status that every request is answered with; 0 for none.
        asked: the path of every request, and whether it had the token.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.refuses = 0
        self.asked: list[tuple[str, bool]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running(token: str) -> Iterator[Hub]:
    with Hub(token) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def spoken_to_by_the_library(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    """Have the official library of this process, which reads its variables once, speak to `hub` alone."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, which is not played here
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", f"{cache}/token")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None: ...

    def _answer(self) -> None:
        body = self._body()
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        is_known = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        self.server.asked.append((self.path, is_known))
        if self.server.refuses:
            return self._send(self.server.refuses, {"error": "refused"})
        match [self.command, *parts]:
            case ["POST", "api", "validate-yaml"]:
                return self._validate(json.loads(body))
            case ["PUT", "lfs", oid]:  # by an address that is signed, without the token
                return self._keep(oid, body)
            case [_, owner, name, "resolve", revision, *path]:
                return self._file(f"{owner}/{name}", revision, "/".join(path))
        if not is_known:
            return self._send(401, {"error": "Invalid username or password."})
        match [self.command, *parts]:
            case ["POST", "api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["GET", "api", "models", owner, name, *revision]:
                return self._info(f"{owner}/{name}", revision[-1] if revision else "main")
            case ["POST", "api", "models", owner, name, "preupload", _]:
                return self._preupload(f"{owner}/{name}", json.loads(body))
            case ["POST", owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                return self._batch(json.loads(body))
            case ["POST", "lfs", "verify"]:
                return self._send(200, {})
            case ["POST", "api", "models", owner, name, "commit", _]:
                return self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
        return self._send(404, {"error": f"not played here: {self.command} {self.path}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, document: Any, **headers: str) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(document, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self._send(404, {"error": code}, X_Error_Code=code)

    def _validate(self, asked: dict[str, Any]) -> None:
        """The head of a page is YAML, and its results are in the form of the Hub."""
        head = asked["content"].split("\n---\n")[0].removeprefix("---\n")
        for model in yaml.safe_load(head).get("model-index", []):
            for result in model["results"]:
                if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]):
                    return self._send(400, {"errors": [{"message": "a result without task or data set"}]})
                if any({"type", "value"} - metric.keys() for metric in result["metrics"]):
                    return self._send(400, {"errors": [{"message": "a metric without type or value"}]})
        return self._send(200, {"errors": [], "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization'] or USER}/{asked['name']}"
        address = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            return self._send(409, {"error": "You already created this model repo", **address})
        is_private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.repositories[name] = Repository(private=is_private)
        return self._send(200, address)

    def _info(self, name: str, revision: str) -> None:
        if (found := self.server.repositories.get(name)) is None:
            return self._missing("RepoNotFound")
        oid, files = found.at(revision)
        siblings = [{"rfilename": each} for each in sorted(files)]
        return self._send(200, {"id": name, "sha": oid, "private": found.private, "siblings": siblings, "tags": []})

    def _preupload(self, name: str, asked: dict[str, Any]) -> None:
        there = self.server.repositories[name].files
        files = []
        for each in asked["files"]:
            is_large = each["path"].endswith(LARGE)
            known = None if each["path"] not in there else _oid(there[each["path"]], is_large=is_large)
            mode = "lfs" if is_large else "regular"
            files.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self._send(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for each in asked["objects"]:
            actions = {
                "upload": {"href": f"{self.server.url}/lfs/{each['oid']}"},
                "verify": {"href": f"{self.server.url}/lfs/verify"},
            }
            objects.append({**each, **({} if each["oid"] in self.server.large else {"actions": actions})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _keep(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            return self._send(400, {"error": "other bytes than were announced"})
        self.server.large[oid] = data
        return self._send(200, b"")

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.server.repositories[name]
        header, *operations = lines
        if header["value"].get("parentCommit") not in (None, repository.head):
            return self._send(412, {"error": "the branch has moved"})
        files = dict(repository.files)
        for each in operations:
            value = each["value"]
            if each["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif each["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files)
        return self._send(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"}
        )

    def _file(self, name: str, revision: str, path: str) -> None:
        if (repository := self.server.repositories.get(name)) is None:
            return self._missing("RepoNotFound")
        oid, files = repository.at(revision)
        if path not in files:
            return self._missing("EntryNotFound")
        etag = _oid(files[path], is_large=path.endswith(LARGE))
        return self._send(200, files[path], X_Repo_Commit=oid, ETag=f'"{etag}"')


def _oid(data: bytes, *, is_large: bool) -> str:
    """As Git LFS names a file, or Git."""
    if is_large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
