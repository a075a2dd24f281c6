"""Download the outputs of one session: the named files, several at once, each proved by its hash.

Promises: a file that is already there is skipped only when its hash says it is the one; nothing is written outside the
folder; the first failure stops the rest and is the one reported. Never decides which files are wanted.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiDownloadKernelOutputRequest,
    ApiListKernelSessionOutputRequest,
)

from kaggle_manager.errors import OutputDamaged, ProtocolError, RemoteError, StorageError, UnsafePath
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.kaggle.connection import ApiConnection
from kaggle_manager.platforms.kaggle.download import download_file
from kaggle_manager.platforms.kaggle.log_lines import parse_log
from kaggle_manager.platforms.kaggle.models import about, pin
from kaggle_manager.platforms.kaggle.transport import Refused
from kaggle_manager.platforms.local_files import take_what_is_here
from kaggle_manager.platforms.platform import ExpectedFile, OutputFile, OutputListing, SessionRef

_PAGE = 200
# No kernel has this many pages of outputs; a listing that does not end is not followed for ever.
_MOST_PAGES = 1000
_AT_ONCE = 8  # small files are a matter of round trips, not of bytes


class _Stopped(Exception):
    """Another file failed, or the user pressed Ctrl-C."""


def list_outputs(client: ApiConnection, version: SessionRef) -> OutputListing:
    """Every output of exactly this session, over all pages, and its log.

    The user's code may have given a file any name, and one that is no plain path stands in the way of no other.

    Raises:
        NotFound, AuthError, RemoteError.
    """
    request = pin(version, ApiListKernelSessionOutputRequest())
    request.page_size = _PAGE
    kernels = KernelsApiClient(client.transport)
    files: dict[str, OutputFile] = {}
    not_plain: list[str] = []
    log = ""
    for _ in range(_MOST_PAGES):
        page = client.call(kernels.list_kernel_session_output, request, about=about(version))
        log = log or page.log or ""
        for listed in page.files or ():
            name = listed.file_name or ""
            try:
                check_file_name(name)
            except UnsafePath:
                not_plain.append(name)
            else:
                files[name] = OutputFile(name, listed.url or "")
        if not page.next_page_token:
            return OutputListing(tuple(files.values()), tuple(parse_log(log)), tuple(not_plain))
        request.page_token = page.next_page_token
    raise ProtocolError(f"The list of outputs of {version.ref} does not end.")


def output_named(client: ApiConnection, version: SessionRef, name: str) -> OutputFile | None:
    """One output of exactly this session, asked for by its name; None when there is none, or Kaggle does not say.

    A list ends after 500 files, and what lies behind them is reached in no other way. Asked once: nobody promises that
    this is answered, so nothing waits for it.
    """
    request = ApiDownloadKernelOutputRequest()
    request.owner_slug, request.kernel_slug, request.version_number = version.owner, version.slug, int(version.id)
    request.file_path = name
    try:
        answer = client.send(KernelsApiClient(client.transport).download_kernel_output, request, on=())
    except (Refused, RemoteError):
        return None
    return OutputFile(name, answer.url or "")


def download_outputs(
    client: ApiConnection,
    version: SessionRef,
    names: Sequence[ExpectedFile],
    folder: Path,
    *,
    listing: OutputListing | None = None,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> None:
    """Download these outputs of exactly this session into `folder`, under their own names.

    Args:
        listing: the session's outputs, when they were just listed.
        on_progress: called from several threads with (name, bytes so far, bytes in all if known).

    Raises:
        OutputDamaged: a file is missing, truncated or altered. UnsafePath: a name leaves the folder.
        StorageError: not enough space, or the disk refused. RemoteError, AuthError, NotFound: as `list_outputs`.
    """
    folder = folder.absolute()
    wanted = take_what_is_here(names, folder).missing
    if not wanted:
        return
    _check_space(folder, sum(file.size or 0 for file in wanted))
    links = _Links(client, version, listing)
    links.check(wanted)
    stop = threading.Event()

    def download(expected: ExpectedFile) -> None:
        def progress(done: int, total: int | None) -> None:
            if stop.is_set():
                raise _Stopped
            if on_progress is not None:
                on_progress(expected.name, done, total)

        if stop.is_set():
            raise _Stopped
        link = links.get(expected.name)
        latest = [link.url]

        def refresh() -> str:
            latest[0] = links.renew(expected.name, latest[0]).url
            return latest[0]

        download_file(
            client,
            link,
            folder / expected.name,
            size=expected.size,
            sha256=expected.sha256,
            refresh_url=refresh,
            on_progress=progress,
        )

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="download") as pool:
        try:
            for done in as_completed([pool.submit(download, file) for file in wanted]):
                done.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Links:
    """The signed addresses of one session; asked for again once, not once per file, when they run out."""

    def __init__(self, client: ApiConnection, version: SessionRef, listing: OutputListing | None) -> None:
        self._client, self._version = client, version
        self._lock = threading.Lock()
        self._files = self._by_name(listing or list_outputs(client, version))

    def check(self, wanted: Sequence[ExpectedFile]) -> None:
        missing = [file.name for file in wanted if file.name not in self._files]
        if missing:
            raise OutputDamaged(
                f"{len(missing)} of {len(wanted)} wanted files are not among the outputs of {self._version.ref}: "
                f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}.",
                safe="nothing was downloaded or replaced",
                next_step="run the same command again; outputs of a session that just ended may still be arriving",
            )

    def get(self, name: str) -> OutputFile:
        return self._files[name]

    def renew(self, name: str, stale: str) -> OutputFile:
        with self._lock:
            if self._files[name].url == stale:
                fresh = self._by_name(list_outputs(self._client, self._version))
                if name not in fresh and (unlisted := output_named(self._client, self._version, name)):
                    fresh[name] = unlisted
                self._files = {**self._files, **fresh}
            return self._files[name]

    @staticmethod
    def _by_name(listing: OutputListing) -> dict[str, OutputFile]:
        return {file.name: file for file in listing.files}


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StorageError(
            f"The outputs take {needed:,} bytes, and {existing} has {free:,} free.",
            safe="nothing was downloaded",
            next_step="free some space and run the same command again",
        )
