"""Uploads: started by name and length, sent to a link, resumable at any byte, taken once complete by a dataset.

The protocol is Google's resumable upload as the official client speaks it: `PUT` sends bytes; `PUT` with
`Content-Range: bytes */N` asks how many have arrived (308 with `Range: bytes=0-K`, or 200 when all have). The bytes on
disk are the only state.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from kaggle_manager.local_kaggle.database import ServerState
from kaggle_manager.local_kaggle.serialization import Body, bad_request, not_found, whole_number

_KEPT_S = 7 * 86400.0


class Blobs:
    """The calls about uploads of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._busy: set[str] = set()

    def start_blob_upload(self, body: Body) -> Body:
        token, name = secrets.token_urlsafe(24), Path(str(body.get("name") or "").replace("\\", "/")).name
        if not name or name in (".", ".."):
            raise bad_request("A blob needs a file name.")
        now, length = self._state.clock(), whole_number(body, "contentLength")
        with self._state.transaction() as database:
            for old in database.execute("SELECT token FROM blobs WHERE created_at < ?", (now - _KEPT_S,)).fetchall():
                self._path(old["token"]).unlink(missing_ok=True)
            database.execute("DELETE FROM blobs WHERE created_at < ?", (now - _KEPT_S,))
            database.execute("INSERT INTO blobs VALUES (?, ?, ?, ?)", (token, name, length, now))
        self._path(token).touch()
        return {"token": token, "createUrl": self._state.link(f"/upload/{token}")}

    def complete(self, token: str) -> tuple[str, Path] | None:
        """(file name, path) of a blob all of whose bytes have arrived."""
        with self._state.transaction() as database:
            row = database.execute("SELECT * FROM blobs WHERE token = ?", (token,)).fetchone()
        if row is None or self._path(token).stat().st_size != row["length"]:
            return None
        return row["name"], self._path(token)

    async def put(self, request: Request) -> Response:
        """One `PUT` on an upload link whose signature was checked."""
        token = request.path_params["token"]
        with self._state.transaction() as database:
            row = database.execute("SELECT * FROM blobs WHERE token = ?", (token,)).fetchone()
        if row is None:
            raise not_found("The upload")
        path, length = self._path(token), row["length"]
        content_range = request.headers.get("content-range", "")
        if re.fullmatch(r"bytes \*/(\d+|\*)", content_range):
            return self._progress(path, length)
        if length and path.stat().st_size == length:
            async for _ in request.stream():
                pass  # A complete upload never changes again: a dataset may share its bytes.
            return self._progress(path, length)
        begin = 0
        if content_range:
            match = re.fullmatch(r"bytes (\d+)-\d+/\d+", content_range)
            if match is None or int(match.group(1)) > path.stat().st_size:
                raise bad_request(f"Content-Range {content_range} does not continue this upload.")
            begin = int(match.group(1))
        if token in self._busy:
            return Response("Another request is writing this upload.", status_code=503)
        self._busy.add(token)
        try:
            await self._receive(request, path, begin, length)
        finally:
            self._busy.discard(token)
        return self._progress(path, length)

    async def _receive(self, request: Request, path: Path, begin: int, length: int) -> None:
        with path.open("r+b") as stream:
            stream.truncate(begin)
            stream.seek(begin)
            try:
                async for chunk in request.stream():
                    if stream.tell() + len(chunk) > length:
                        raise bad_request("More bytes than the upload announced.")
                    stream.write(chunk)
            except ClientDisconnect:
                return  # What arrived is kept: the client asks how much, and continues from there.

    def _progress(self, path: Path, length: int) -> Response:
        arrived = path.stat().st_size
        if arrived == length:
            return Response(status_code=200)
        return Response(status_code=308, headers={"Range": f"bytes=0-{arrived - 1}"} if arrived else {})

    def _path(self, token: str) -> Path:
        return self._state.root / "blobs" / token
