"""Download one file: resumed where it broke off, checked, then given its name in one step.

Promises: a file with its final name has the size and sha256 that were asked for; memory stays flat; credentials are not
sent to the host that holds the file. Never resumes from bytes of unknown origin, and never overwrites a good
file with a bad one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import requests

from kaggle_manager.errors import (
    KaggleManagerError,
    OutputDamaged,
    ProtocolError,
    RateLimited,
    Unavailable,
)
from kaggle_manager.platforms.kaggle.connection import ApiConnection
from kaggle_manager.platforms.kaggle.retry import parse_retry_after
from kaggle_manager.platforms.kaggle.transport import read_body
from kaggle_manager.platforms.local_files import PART_SUFFIX, storage_error
from kaggle_manager.platforms.platform import OutputFile
from kaggle_manager.system.files import sha256_of

_CHUNK = 256 * 1024
# How the hosts that hold files say that a signed address has run out, or never was.
_EXPIRED = (400, 401, 403, 404, 410)
_RENEWALS = 3
# Fewer bytes than this are no progress: a host that breaks off after a few would be asked for ever.
_PROGRESS = 32 * 1024

Progress = Callable[[int, int | None], None]


def download_file(
    client: ApiConnection,
    file: OutputFile,
    destination: Path,
    *,
    size: int | None,
    sha256: str | None,
    refresh_url: Callable[[], str] | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Download one output to `destination`, beside which a `.part` file holds what has come so far.

    Args:
        size: bytes it must have; None when unknown.
        sha256: hex digest it must have; None when unknown; then an older `.part` file is not continued.
        refresh_url: gives a new signed address when the old one has run out.
        on_progress: called with (bytes so far, bytes in all if known).

    Raises:
        OutputDamaged: other bytes than the hash says, also after one clean try; or the file is gone.
        StorageError: this machine's disk refused. RemoteError: the host did not answer as it should.
    """
    part = destination.with_name(f"{destination.name}{PART_SUFFIX}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            part.unlink(missing_ok=True)
        download = _Download(client, file, part, size, sha256, refresh_url, on_progress)
        problem = download.run()
        if problem:
            part.unlink(missing_ok=True)
            problem = download.run()
        if problem:
            part.unlink(missing_ok=True)
        else:
            part.replace(destination)
    except OSError as error:
        raise storage_error(error, destination) from None
    if problem:
        raise OutputDamaged(
            f"{file.name} is damaged: {problem}, also when downloaded again.",
            safe="it was not kept; nothing of an earlier download was replaced",
            next_step="run the same command again; if it stays so, the session's output itself is damaged",
        )


class _Download:
    """The download of one file, over as many requests as it takes."""

    def __init__(
        self,
        client: ApiConnection,
        file: OutputFile,
        part: Path,
        size: int | None,
        sha256: str | None,
        refresh_url: Callable[[], str] | None,
        on_progress: Progress | None,
    ) -> None:
        self._client, self._file, self._part, self._size, self._sha256 = client, file, part, size, sha256
        self._refresh_url = refresh_url
        self._on_progress = on_progress or (lambda done, total: None)
        self._url = file.url
        self._validator = ""  # ETag or date of the bytes in the part file, as far as this process downloaded them
        self._renewals, self._renewed_at = _RENEWALS, 0  # how often in a row, since which progress
        self._furthest = 0  # the byte reached so far: what counts as progress, unlike bytes received over and over
        self._hash = hashlib.sha256()  # of the first `_hashed` bytes of the part file
        self._hashed = 0

    def run(self) -> str:
        """Download to the end; returns what is wrong with the bytes, or ""."""
        self._furthest = 0
        self._client.retry.run(self._once, on=(Unavailable, RateLimited), progress=self._progress)
        have = self._part.stat().st_size
        if self._size is not None and have != self._size:
            return f"{'more than ' if have > self._size else ''}{have:,} bytes instead of {self._size:,}"
        if self._sha256 is not None and (digest := self._digest(have)) != self._sha256.lower():
            return f"sha256 {digest[:12]}… instead of {self._sha256[:12]}…"
        return ""

    def _progress(self) -> int:
        return self._furthest // _PROGRESS

    def _digest(self, have: int) -> str:
        """sha256 of the part file; most often known already, from its bytes as they arrived."""
        return self._hash.hexdigest() if self._hashed == have else sha256_of(self._part)

    def _once(self) -> None:
        """One request: the rest of the file, or all of it."""
        offset = self._resumable_bytes()
        if offset and offset == self._size:
            self._on_progress(offset, self._size)
            return
        failure: KaggleManagerError
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._validator:
                headers["If-Range"] = self._validator
        transport, what = self._client.transport, f"download of {self._file.name}"
        try:
            with transport.file_request("GET", self._url, what, headers=headers) as response:
                if response.status_code == 416 and offset:
                    return  # nothing follows what we have: the checks decide
                self._refuse(response)
                self._receive(response, offset)
                return
        except requests.RequestException as error:
            failure = transport.failure(error, what)
        raise failure

    def _resumable_bytes(self) -> int:
        resumable = self._sha256 is not None or self._validator
        have = self._part.stat().st_size if resumable and self._part.exists() else 0
        return have if self._size is None or have <= self._size else 0

    def _receive(self, response: requests.Response, offset: int) -> None:
        start = _range_start(response) if response.status_code == 206 else 0
        if start not in (0, offset):
            self._part.unlink(missing_ok=True)
            raise Unavailable(f"The host of {self._file.name} sent another part than was asked for.")
        tag = response.headers.get("ETag", "")
        # A weak tag does not promise the same bytes.
        self._validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        total = self._size
        if total is None and response.headers.get("Content-Length", "").isdigit():
            total = start + int(response.headers["Content-Length"])
        if start == 0:
            self._hash, self._hashed = hashlib.sha256(), 0
        done = start
        self._on_progress(done, total)  # what was here before is no speed
        with self._part.open("ab" if start else "wb") as out:
            for chunk in read_body(response, _CHUNK, stalled_after_s=self._client.transport.read_timeout_s):
                out.write(chunk)
                if self._hashed == done:
                    self._hash.update(chunk)
                    self._hashed += len(chunk)
                done += len(chunk)
                self._furthest = max(self._furthest, done)
                self._on_progress(done, total)
                if self._size is not None and done > self._size:
                    break  # whatever this is, it is not the file; it shall not fill the disk
            out.flush()
            os.fsync(out.fileno())

    def _refuse(self, response: requests.Response) -> None:
        """Raise for every answer that is not the file's bytes."""
        status = response.status_code
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        name = self._file.name
        if status == 429:
            raise RateLimited(f"The host of {name} asks to slow down.", retry_after_s=wait_s)
        if status in _EXPIRED:
            if self._progress() > self._renewed_at:
                self._renewals, self._renewed_at = _RENEWALS, self._progress()
            if self._refresh_url is not None and self._renewals > 0:
                self._renewals -= 1
                self._url = self._refresh_url()
                raise Unavailable(f"The address of {name} had run out and was renewed.")
            if status in (404, 410):
                raise OutputDamaged(
                    f"{name} is listed, but its bytes are gone (HTTP {status}).",
                    safe="nothing of an earlier download was replaced",
                    next_step="run the same command again",
                )
            raise ProtocolError(f"The host of {name} refuses its signed address (HTTP {status}).")
        is_page = "text/html" in response.headers.get("Content-Type", "") and not name.endswith((".html", ".htm"))
        if status not in (200, 206) or is_page:
            what = "a web page" if status == 200 and is_page else str(status)
            raise Unavailable(f"The host of {name} answered {what} instead of its bytes.", retry_after_s=wait_s)


def _range_start(response: requests.Response) -> int:
    """First byte of a 206 answer ("bytes 100-199/200"); -1 when it does not say."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    start = span.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else -1
