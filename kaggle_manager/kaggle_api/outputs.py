"""Download the outputs of one session: the named files, several at once, each proved by its hash.

Promises: a file that is already there is skipped only when its hash says it is the one; nothing is written outside the
folder; the first failure stops the rest and is the one reported. Never decides which files are wanted.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import OutputDamaged, StorageError, UnsafePath
from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.download import download_file, sha256_of
from kaggle_manager.kaggle_api.models import KernelVersion, OutputFile
from kaggle_manager.kaggle_api.names import check_file_name

__all__ = ["ExpectedFile", "download_file", "download_outputs"]

_AT_ONCE = 8  # small files are a matter of round trips, not of bytes


@dataclass(frozen=True)
class ExpectedFile:
    """A file that is wanted, and what vouches for its bytes; None where nothing does."""

    name: str
    size: int | None
    sha256: str | None


class _Stopped(Exception):
    """Another file failed, or a person pressed Ctrl-C."""


def download_outputs(
    client: KaggleClient,
    version: KernelVersion,
    names: Sequence[ExpectedFile],
    folder: Path,
    *,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> None:
    """Download these outputs of exactly this session into `folder`, under their own names.

    Args:
        on_progress: called from several threads with (name, bytes so far, bytes in all if known).

    Raises:
        OutputDamaged: a file is missing, truncated or altered. UnsafePath: a name leaves the folder.
        StorageError: not enough space, or the disk refused. RemoteError, AuthError, NotFound: as `list_outputs`.
    """
    folder = folder.absolute()
    wanted = [file for file in names if not _is_there(file, _inside(folder, file.name))]
    if not wanted:
        return
    _check_space(folder, sum(file.size or 0 for file in wanted))
    links = _Links(client, version)
    links.check(wanted)
    stop = threading.Event()

    def fetch(expected: ExpectedFile) -> None:
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
            for done in as_completed([pool.submit(fetch, file) for file in wanted]):
                done.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Links:
    """The signed addresses of one session; asked for again once, not once per file, when they run out."""

    def __init__(self, client: KaggleClient, version: KernelVersion) -> None:
        self._client, self._version = client, version
        self._lock = threading.Lock()
        self._files = self._list()

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
                fresh = self._list()
                self._files = {**self._files, **fresh}
            return self._files[name]

    def _list(self) -> dict[str, OutputFile]:
        return {file.name: file for file in self._client.list_outputs(self._version).files}


def _inside(folder: Path, name: str) -> Path:
    check_file_name(name)
    path = folder / name
    # A link left in the folder could lead out of it although the name does not.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafePath(
            f"{name!r} would be written outside {folder}, through a link.",
            safe="nothing was downloaded",
            next_step=f"remove the link, or the folder {folder}",
        )
    return path


def _is_there(file: ExpectedFile, path: Path) -> bool:
    if file.sha256 is None or not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    return sha256_of(path) == file.sha256.lower()


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StorageError(
            f"The outputs take {needed:,} bytes, and {existing} has {free:,} free.",
            safe="nothing was downloaded",
            next_step="free some space and run the same command again",
        )
