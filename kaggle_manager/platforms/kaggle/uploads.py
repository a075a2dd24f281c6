"""Upload one file to where Kaggle keeps blobs: Google's resumable protocol, continued where it broke off.

Promises: returns a token only when the host says it has every byte; memory stays flat; an upload that was cut, also by
the end of this process, continues where it was cut; credentials are not sent to that host. The token
means "uploaded", not "published": `datasets.py` sees to that.
Protocol: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import requests
from kagglesdk.blobs.services.blob_api_service import BlobApiClient
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

from kaggle_manager.errors import ProtocolError, RateLimited, Unavailable
from kaggle_manager.platforms.kaggle.connection import ApiConnection
from kaggle_manager.platforms.kaggle.resumable_uploads import OpenUpload, UploadMemory
from kaggle_manager.platforms.kaggle.retry import parse_retry_after

_DONE = (200, 201)
_INCOMPLETE = 308
# The upload's signed address has run out, or the host lost the upload: begin again.
_LOST = (400, 401, 403, 404, 410)
_RESTARTS = 3


class _Lost(Exception):
    """The host knows nothing of this upload any more."""


def upload_blob(
    client: ApiConnection,
    path: Path,
    on_progress: Callable[[int, int], None] | None = None,
    memory: UploadMemory | None = None,
) -> str:
    """Upload a file; returns the token that stands for it.

    Args:
        on_progress: called with (bytes sent, bytes in all).
        memory: where an upload is written down, so that another process can go on with it.

    Raises:
        AuthError, ConfigError, RemoteError.
    """
    place = memory.place(path, client.transport.host) if memory else None
    begun = UploadMemory.recall(place) if place else None
    for _ in range(_RESTARTS):
        upload = begun or _start(client, path)
        if place and not begun:
            UploadMemory.remember(place, upload)
        transfer = _Upload(client, path, upload.url, on_progress, is_new=begun is None)
        begun = None
        try:
            client.retry.run(transfer.step, on=(Unavailable, RateLimited), progress=lambda: transfer.arrived)  # noqa: B023
        except _Lost:
            continue
        return upload.token
    raise ProtocolError(f"The host lost the upload of {path.name} {_RESTARTS} times.")


def _start(client: ApiConnection, path: Path) -> OpenUpload:
    request = ApiStartBlobUploadRequest()
    request.type, request.name = ApiBlobType.DATASET, path.name
    request.content_length, request.last_modified_epoch_seconds = path.stat().st_size, int(path.stat().st_mtime)
    started = client.call(BlobApiClient(client.transport).start_blob_upload, request, about=f"upload of {path.name}")
    return OpenUpload(str(started.token), client.transport.file_address(started.create_url))


class _Upload:
    """One upload over as many requests as it takes."""

    def __init__(
        self,
        client: ApiConnection,
        path: Path,
        url: str,
        on_progress: Callable[[int, int], None] | None,
        *,
        is_new: bool,
    ) -> None:
        self._client, self._path, self._size = client, path, path.stat().st_size
        self._url = client.transport.file_address(url)
        self._on_progress = on_progress or (lambda done, total: None)
        self._is_first = is_new
        self.arrived = 0

    def step(self) -> None:
        """Send what the host does not have yet; returns when it has everything.

        Raises:
            Unavailable, RateLimited: not finished, to be continued. _Lost, ProtocolError.
        """
        if not self._is_first and self._ask():
            return
        self._is_first = False
        self._tell(0)  # what had arrived before is no speed
        with self._path.open("rb") as stream:
            stream.seek(self.arrived)
            body = _Body(stream, self._size - self.arrived, self._tell)
            headers = {"Content-Type": "application/octet-stream"}
            if self.arrived:
                headers["Content-Range"] = f"bytes {self.arrived}-{self._size - 1}/{self._size}"
            done = self._put(body, headers)
        if not done:
            raise Unavailable(f"The host has {self.arrived:,} of {self._size:,} bytes of {self._path.name}.")

    def _ask(self) -> bool:
        """Ask how much arrived; True when that is everything."""
        return self._put(None, {"Content-Range": f"bytes */{self._size}", "Content-Length": "0"})

    def _put(self, body: _Body | None, headers: dict[str, str]) -> bool:
        what = f"upload of {self._path.name}"
        # Closed unread: status and headers say everything, and a body may never end.
        with self._client.transport.file_request(
            "PUT", self._url, what, data=body, headers=headers, allow_redirects=False
        ) as response:
            return self._read(response)

    def _read(self, response: requests.Response) -> bool:
        status = response.status_code
        if status in _DONE and "text/html" in response.headers.get("Content-Type", ""):
            raise Unavailable(f"A web page answered instead of the host for {self._path.name}.")
        if status in _DONE:
            self.arrived = self._size
            self._on_progress(self._size, self._size)
            return True
        if status == _INCOMPLETE:
            self.arrived = _bytes_arrived(response.headers.get("Range", ""))
            return False
        if status in _LOST:
            raise _Lost
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        if status == 429:
            raise RateLimited(f"The host for {self._path.name} asks to slow down.", retry_after_s=wait_s)
        if status >= 500:
            raise Unavailable(f"The host for {self._path.name} answered {status}.", retry_after_s=wait_s)
        raise ProtocolError(f"The host refused the upload of {self._path.name} (HTTP {status}).")

    def _tell(self, sent: int) -> None:
        self._on_progress(self.arrived + sent, self._size)


class _Body:
    """The rest of a file, as requests reads a body of known length; tells how much was taken."""

    def __init__(self, stream: BinaryIO, length: int, tell: Callable[[int], None]) -> None:
        self._stream, self._length, self._tell, self._sent = stream, length, tell, 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> _Body:
        return self  # requests takes for a stream what it can iterate over; http.client then uses read()

    def __next__(self) -> bytes:
        raise StopIteration

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._sent
        chunk = self._stream.read(left if size < 0 else min(size, left))
        self._sent += len(chunk)
        self._tell(self._sent)
        return chunk


def _bytes_arrived(span: str) -> int:
    """Of "bytes=0-41": 42. Without the header nothing has arrived."""
    last = span.rpartition("-")[2]
    return int(last) + 1 if last.isdigit() else 0
