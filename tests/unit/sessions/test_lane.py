"""What a run sees of a session that it shares: its own outputs, its own lines, and nothing of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from kaggle_manager.errors import OutputDamaged
from kaggle_manager.platforms.platform import (
    ExpectedFile,
    LogLine,
    OutputFile,
    OutputListing,
    Platform,
    SessionRef,
)
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.lane import lines_of, outputs_of

REF = SessionRef("me", "km-a", "3")
NAMES = ("lane_1/result.json", "lane_1/tree/a", "lane_2/result.json", "lane_2/tree/a", "lane_20/tree/a", "other")


def line(index: int, text: str) -> LogLine:
    return LogLine(index, "stdout", float(index), text)


LOG = tuple(map(line, range(4), ("of all", "lane_1| one", "lane_2| two", "lane_20| other")))


class Listed:
    """The outputs of one session of a platform, each with its own name as content."""

    def __init__(self, damaged: str = "") -> None:
        self.damaged = damaged
        self.asked: list[str] = []

    def outputs(self, version: SessionRef) -> OutputListing:
        return OutputListing(tuple(OutputFile(name, f"at {name}") for name in NAMES), LOG, ("lane_2/..", "lane_1/.."))

    def output_named(self, version: SessionRef, name: str) -> OutputFile | None:
        return OutputFile(name, f"at {name}") if name in NAMES else None

    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Any = None,
    ) -> None:
        assert listing is not None
        there = {file.name: file.url for file in listing.files}
        for file in names:
            if file.name == self.damaged:
                raise OutputDamaged("half of it")
            assert there[file.name] == f"at {file.name}"
            (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_text(file.name)
            on_progress(file.name, 1, 1)

    def download_file(self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None:
        self.asked.append(file.name)


def session(lane: str) -> SessionRow:
    return SessionRow("r", 1, Stage.ENDED, None, 0, "b", "", "2026-01-01T00:00:00+00:00", facts={"lane": lane})


def test_a_lane_shows_its_own_files_and_lines_under_the_names_of_a_session_of_its_own() -> None:
    seen = outputs_of(cast(Platform, Listed()), session("lane_2"))
    listing = seen.outputs(REF)
    assert [file.name for file in listing.files] == ["result.json", "tree/a"]
    assert [(each.index, each.text) for each in listing.log] == [(0, "of all"), (2, "two")]
    assert listing.not_plain == ("..",)
    assert seen.output_named(REF, "tree/a") == OutputFile("tree/a", "at lane_2/tree/a")
    assert seen.output_named(REF, "tree/b") is None
    assert [each.text for each in lines_of("", LOG)] == [each.text for each in LOG], "nothing is hidden without lanes"


def test_a_lane_downloads_into_the_folder_of_its_session_and_leaves_nothing_beside(tmp_path: Path) -> None:
    platform, told = Listed(), []
    seen = outputs_of(cast(Platform, platform), session("lane_2"))
    wanted = [ExpectedFile(name, None, None) for name in ("result.json", "tree/a")]
    folder = tmp_path / "generation_1"
    seen.download(REF, wanted, folder, listing=seen.outputs(REF), on_progress=lambda *at: told.append(at[0]))
    assert (folder / "tree/a").read_text() == "lane_2/tree/a"
    assert told == ["result.json", "tree/a"]
    assert [path.name for path in tmp_path.iterdir()] == ["generation_1"]
    seen.download_file(OutputFile("tree/a", "at lane_2/tree/a"), folder / "b", size=None, sha256=None)
    assert platform.asked == ["lane_2/tree/a"]


def test_what_came_whole_is_kept_when_the_next_file_is_refused(tmp_path: Path) -> None:
    seen = outputs_of(cast(Platform, Listed(damaged="lane_2/tree/a")), session("lane_2"))
    wanted = [ExpectedFile(name, None, None) for name in ("result.json", "tree/a")]
    with pytest.raises(OutputDamaged):
        seen.download(REF, wanted, tmp_path / "generation_1", listing=seen.outputs(REF), on_progress=None)
    assert [path.name for path in (tmp_path / "generation_1").iterdir()] == ["result.json"]


def test_a_session_of_its_own_is_seen_as_it_is() -> None:
    platform = cast(Platform, Listed())
    assert outputs_of(platform, session("")) is platform
