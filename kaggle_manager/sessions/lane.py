"""What one run sees of a session that it shares with others: its own outputs, and its own lines of the log.

A session that a run has for itself is seen as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kaggle_manager.platforms.platform import (
    ExpectedFile,
    LogLine,
    OutputFile,
    OutputListing,
    Platform,
    Progress,
    SessionRef,
)
from kaggle_manager.protocol.lanes import line_of
from kaggle_manager.runs.rows import SessionRow


class Outputs(Protocol):
    """The part of a platform that a session's outputs are read with; see `Platform`."""

    def outputs(self, version: SessionRef) -> OutputListing: ...

    def output_named(self, version: SessionRef, name: str) -> OutputFile | None: ...

    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Progress | None = None,
    ) -> None: ...

    def download_file(self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None: ...


def outputs_of(client: Platform, session: SessionRow) -> Outputs:
    """What `session` left, under the names that its run gave to it."""
    return _OfLane(client, session.lane) if session.lane else client


def lines_of(lane: str, lines: Iterable[LogLine]) -> Iterator[LogLine]:
    """The lines of a session's log that its `lane` shows, each with its place in the whole log."""
    for line in lines:
        if (text := line_of(lane, line.text)) is not None:
            yield line if text == line.text else replace(line, text=text)


class _OfLane:
    """The outputs below the folder of a lane, as if nothing else were there."""

    def __init__(self, client: Platform, lane: str) -> None:
        self._client, self._lane, self._prefix = client, lane, f"{lane}/"

    def outputs(self, version: SessionRef) -> OutputListing:
        listing = self._client.outputs(version)
        files = tuple(self._short(file) for file in listing.files if file.name.startswith(self._prefix))
        not_plain = (name for name in listing.not_plain if name.startswith(self._prefix))
        return OutputListing(
            files,
            tuple(lines_of(self._lane, listing.log)),
            tuple(name.removeprefix(self._prefix) for name in not_plain),
        )

    def output_named(self, version: SessionRef, name: str) -> OutputFile | None:
        file = self._client.output_named(version, self._prefix + name)
        return file and self._short(file)

    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        def told(name: str, done: int, total: int | None) -> None:
            if on_progress is not None:
                on_progress(name.removeprefix(self._prefix), done, total)

        whole = listing and replace(listing, files=tuple(map(self._long, listing.files)))
        wanted = [replace(file, name=self._prefix + file.name) for file in names]
        # They land beside the session's folder, where a transfer that was cut continues, and move there one by one.
        landing = folder.with_name(f"{folder.name}.lane")
        try:
            self._client.download(version, wanted, landing, listing=whole, on_progress=told)
        finally:
            for file in names:
                if (landed := landing / self._lane / file.name).is_file():
                    (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
                    landed.replace(folder / file.name)
            if not any(path.is_file() for path in landing.rglob("*")):
                shutil.rmtree(landing, ignore_errors=True)

    def download_file(self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None:
        self._client.download_file(self._long(file), destination, size=size, sha256=sha256)

    def _short(self, file: OutputFile) -> OutputFile:
        return replace(file, name=file.name.removeprefix(self._prefix))

    def _long(self, file: OutputFile) -> OutputFile:
        return replace(file, name=self._prefix + file.name)
