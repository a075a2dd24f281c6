"""A session's last file is written whatever its error holds, and read by the model that wrote it."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import sys
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from small_trees import content, flip, plant

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, LineageMismatch
from kaggle_manager.protocol.events import Event, ProgressEvent, ResultEvent, ResumeEvent
from kaggle_manager.protocol.file_names import RESULT_FILE, START_FILE
from kaggle_manager.protocol.session_result import SessionResult, parse_result
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.trainer.runtime import output_folder
from kaggle_manager.trainer.runtime.output_folder import OutputWatch
from kaggle_manager.trainer.runtime.session_files import (
    close_folder,
    failure,
    session_fields,
    write_result,
    write_start,
)

WHO: dict[str, Any] = {"run_id": "r", "generation": 2, "bundle_sha256": "b"}
KEPT, LISTED = 20 * 10**9, 500
START = SessionStart(**WHO, device="cpu", accelerator=None, target=9, from_zero="a test")


def left(working: Path, listed_files: int | None = LISTED, **facts: Any) -> tuple[SessionResult, list[Event]]:
    told: list[Event] = []
    write_result(working, SessionResult(**WHO, **facts), told.append, listed_files)
    return parse_result((working / RESULT_FILE).read_bytes(), **WHO), told


def test_it_lists_what_the_next_session_needs_and_tells_the_end(tmp_path: Path) -> None:
    tree = plant(tmp_path / "training_tree", run_id="r")
    write_start(tmp_path, START)
    (tree.root / "notes.txt").write_text("a user's")
    (tmp_path / RESULT_FILE).write_text("of a try before")
    result, told = left(tmp_path, outcome="completed", exit_code=0, step=7, reason="x" * 5000)
    needed = {name for name in content(tree.root) if not name.startswith(("history", "training_meta", "notes"))}
    assert {file.name for file in result.files} == {f"training_tree/{name}" for name in needed}
    for file in (*result.files, *result.optional):
        data = (tmp_path / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert [file.name for file in result.optional] == ["session_start.json", "training_tree/history/evaluations.npz"]
    assert [file.name for file in result.others.named] == ["training_tree/notes.txt"]
    (event,) = told
    assert isinstance(event, ResultEvent)
    assert (event.step, event.output_files, event.run_id, len(event.reason)) == (7, len(needed) + 2, "r", 300)


def test_a_checkpoint_that_is_damaged_or_of_another_run_is_not_needed(tmp_path: Path) -> None:
    tree = plant(tmp_path / "training_tree", (1, 2, 3), run_id="r")
    plant(tmp_path / "another", (98, 99), run_id="another")
    flip(tree.checkpoints / tree.name("latest", "model", 3))
    for path in (tmp_path / "another/checkpoints").rglob("*"):  # whole, with its replay rows
        if path.is_file():
            path.rename(tree.checkpoints / path.relative_to(tmp_path / "another/checkpoints"))
    result, _ = left(tmp_path, outcome="completed", exit_code=0)
    names = [file.name.rpartition("/")[2] for file in result.files]
    assert [name for name in names if name.endswith("steps.manifest.json")] == [tree.manifest_name("latest", 2)]


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to nothing", "a link to itself", "a file"])
@pytest.mark.parametrize("name", [RESULT_FILE, f"{RESULT_FILE}.tmp", START_FILE])
@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
def test_what_the_users_code_made_in_the_place_of_a_file_of_ours_is_put_aside(
    name: str, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / name
    if kind == "a folder":
        place.mkdir()
        (place / "x").write_text("a user's")
    elif kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a file":
        place.write_text("a user's")
    else:
        place.symlink_to(place if kind == "a link to itself" else tmp_path / "nothing")
    write_start(tmp_path, START)
    result, _ = left(tmp_path, outcome="completed", exit_code=0)
    assert "session_start.json" in [file.name for file in result.optional]
    assert kind != "a folder" or (tmp_path / f"{name}.other/x").read_text() == "a user's"


@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
def test_more_files_than_a_platform_lists_are_moved_into_one_archive_the_smallest_first(tmp_path: Path) -> None:
    tree = plant(tmp_path / "training_tree", run_id="r")
    ours = set(content(tmp_path))
    for number in range(600):
        path = tmp_path / f"episodes/{number:03}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * number)
    os.mkfifo(tmp_path / "pipe")
    result, _ = left(tmp_path, outcome="completed", exit_code=0)
    listed = set(content(tmp_path))
    assert len(listed) <= 450
    assert ours | {RESULT_FILE, "other_files.tar", "episodes/599.csv"} <= listed
    assert (result.others.count, result.others.packed) == (len(listed - ours) - 1, 601 - len(listed - ours) + 2)
    assert result.others.named[0].name == "other_files.tar", "which is downloaded before the others"
    with tarfile.open(tmp_path / "other_files.tar") as archive:
        packed = {member.name: member.size for member in archive if member.isfile()}
    there = {name: int(name[-7:-4]) for name in packed}
    assert packed == there
    assert there.keys() | {name for name in listed if name.startswith("episodes/")} == {
        f"episodes/{number:03}.csv" for number in range(600)
    }
    assert max(there.values()) < min(int(name[-7:-4]) for name in listed if name.startswith("episodes/"))
    assert CheckpointStore(tree).valid_checkpoints()


def test_a_file_is_in_the_archive_before_it_leaves_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(600):
        (tmp_path / f"{number:03}").write_bytes(b"small")
    archive, unlink, sizes = tmp_path / "other_files.tar", Path.unlink, list[int]()

    def observed(path: Path, missing_ok: bool = False) -> None:
        sizes.append(archive.stat().st_size)  # as a kill here would leave it
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", observed)
    left(tmp_path, outcome="completed", exit_code=0)
    assert len(sizes) > 100
    assert all(after - before >= 1024 for before, after in pairwise([0, *sizes])), "a header and a block of each file"


def test_a_file_of_which_the_disk_takes_a_part_stays_in_its_place(tmp_path: Path) -> None:
    class NearlyFull(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(data[: len(data) // 2] if bytes(data[:5]) == b"given" else data)

    (given := tmp_path / "given").write_bytes(b"given" * 100)
    with NearlyFull(tmp_path / "archive", "xb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        (whole := tmp_path / "whole").write_bytes(b"whole")
        assert output_folder._moved(whole, "whole", tar, stream)
        assert not output_folder._moved(given, "given", tar, stream)
    assert given.exists()
    assert not whole.exists()
    with tarfile.open(tmp_path / "archive") as kept:
        assert kept.getnames() == ["whole"]


def test_a_file_that_cannot_be_packed_leaves_the_archive_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(600):
        (tmp_path / f"{number:03}").write_bytes(bytes([number % 256]) * 700)
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith("7"):
            raise PermissionError(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    left(tmp_path, outcome="completed", exit_code=0)
    with tarfile.open(tmp_path / "other_files.tar") as archive:
        packed = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    assert all(data == bytes([int(name) % 256]) * 700 for name, data in packed.items())
    assert packed.keys().isdisjoint(content(tmp_path))
    assert len(packed) + len(content(tmp_path)) == 602


def test_files_that_vanish_while_they_are_looked_at_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = Path.lstat
    for number in range(600):
        (tmp_path / f"{number:03}").write_text("x")

    def vanishing(path: Path) -> os.stat_result:
        facts = lstat(path)
        if path.name.endswith(("3", "4")):
            path.unlink()
            if path.name.endswith("4"):
                raise FileNotFoundError(path)
        return facts

    monkeypatch.setattr(Path, "lstat", vanishing)
    result, _ = left(tmp_path, outcome="completed", exit_code=0)
    assert len(content(tmp_path)) <= 450
    assert result.others.packed > 0


@pytest.mark.parametrize(
    "message",
    ["file \udce9 is missing", "x" * 9_000_000, "", "é\n\x00"],
    ids=["half a character", "huge", "none", "odd"],
)
def test_an_error_is_kept_whatever_its_message_holds(message: str, tmp_path: Path) -> None:
    result, _ = left(tmp_path, **failure(RuntimeError(message)))
    assert (result.outcome, result.exit_code) == ("crashed", 1)
    assert result.cause.startswith("RuntimeError")
    assert result.reason.encode() or not message, "the journal can store it"


@pytest.mark.parametrize(
    ("error", "outcome", "exit_code"),
    [
        (CheckpointIncompatible("x"), "refused", 7),
        (LineageMismatch("x"), "refused", 3),
        (ConfigError("x"), "refused", 3),
        (KeyboardInterrupt(), "crashed", 1),
    ],
)
def test_an_error_has_its_outcome_and_exit_code(error: BaseException, outcome: str, exit_code: int) -> None:
    facts = failure(error)
    assert (facts["outcome"], facts["exit_code"]) == (outcome, exit_code)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are text there")
def test_an_output_whose_name_cannot_be_shown_is_packed_or_named_escaped(tmp_path: Path) -> None:
    for name in ("odd\udce9.csv", "line\nend", "\x1b[31mred", "even.csv", "a\u202eb"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "a pipe\n")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "no archive\nholds this"))
        result, _ = left(tmp_path, outcome="completed", exit_code=0)
    assert [file.name for file in result.others.named] == ["other_files.tar", "even.csv", "no archive\\nholds this"]
    assert result.others.packed == 5
    with tarfile.open(tmp_path / "other_files.tar") as archive:
        assert set(archive.getnames()) == {"odd\udce9.csv", "line\nend", "\x1b[31mred", "a\u202eb", "a pipe\n"}


@pytest.mark.parametrize(
    ("exit_code", "outcome", "cause"),
    [
        (0, "interrupted", "not there"),
        (1, "crashed", "its traceback is in the log"),
        (-9, "crashed", "a signal ended it: SIGKILL"),
        (-40, "crashed", "a signal ended it: 40"),
    ],
)
def test_a_result_that_is_gone_or_not_ours_is_written_of_what_was_saved(
    exit_code: int, outcome: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path))
    tree = plant(tmp_path / "training_tree", run_id="r")
    (tmp_path / RESULT_FILE).write_text("{}")
    close_folder(WHO, exit_code)
    result = parse_result((tmp_path / RESULT_FILE).read_bytes(), **WHO)
    assert (result.outcome, result.exit_code) == (outcome, exit_code)
    assert result.reason.endswith(cause)
    assert f"training_tree/checkpoints/{tree.manifest_name('latest', 2)}" in [file.name for file in result.files]


def test_of_a_result_that_is_there_only_what_else_was_left_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path))
    plant(tmp_path / "training_tree", run_id="r")
    before, _ = left(tmp_path, outcome="completed", exit_code=0, step=7)
    for number in range(600):
        (tmp_path / f"{number}.csv").write_text("x")
    close_folder({**WHO, "output_files": LISTED}, 0)
    after = parse_result((tmp_path / RESULT_FILE).read_bytes(), **WHO)
    assert after.others.packed > 0
    assert len(content(tmp_path)) <= 450
    assert after.model_copy(update={"others": before.others}) == before


@pytest.mark.parametrize(
    ("others", "tree", "told", "stopped"),
    [
        ([(3, 1e9)], 1e9, [], False),
        ([(3, 9.5e9)], 1e9, ["10.5 of the 20 GB"], False),
        ([(451, 1e6)], 1e9, ["451 files besides", "moved into other_files.tar"], False),
        ([(3, 10e9), (3, 11e9), (3, 16e9), (4, 16e9)], 1e9, ["11.0 of the 20 GB", "17.0 of the 20 GB"], False),
        ([(3, 18e9)], 1e9, ["19.0 of the 20 GB"], True),
        ([(3, 1e9)], 18e9, ["19.0 of the 20 GB"], False),
    ],
    ids=["little", "half", "many", "growing", "nearly full", "nearly full of the tree"],
)
def test_a_folder_that_grows_is_told_once_and_ends_the_session_before_it_is_full(
    others: list[tuple[int, float]], tree: float, told: list[str], stopped: bool, tmp_path: Path
) -> None:
    said: list[str] = []
    stops: list[str] = []
    watch = OutputWatch(tmp_path, KEPT, LISTED, stops.append, said.append)
    for files, size in others:
        watch._judge(files=files, size=int(size), tree_size=int(tree))
    assert all(words in "\n".join(said) for words in told)
    assert len(said) == len([words for words in told if "GB" in words or "besides" in words])
    assert bool(stops) is stopped


def test_where_a_platform_keeps_and_lists_everything_nothing_is_moved_told_or_ended(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.csv").write_text("x")
    result, _ = left(tmp_path, None, outcome="completed", exit_code=0)
    assert (result.others.count, result.others.packed) == (600, 0)
    OutputWatch(tmp_path, None, None, pytest.fail, pytest.fail)._judge(files=600, size=10**12, tree_size=10**12)


def test_the_folder_is_looked_at_after_an_event_of_progress_and_not_at_each(tmp_path: Path) -> None:
    now, said, heard = [0.0], list[str](), list[Event]()
    for number in range(451):
        (tmp_path / f"{number}.csv").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    watch = OutputWatch(tmp_path, KEPT, LISTED, pytest.fail, said.append, now=lambda: now[0])
    emit, event = watch.after(heard.append), ProgressEvent(step=1, target=2)
    emit(ResumeEvent(step=0, target=2))
    assert said == []
    emit(event)
    assert len(said) == 1
    assert "452 files" in said[0]
    for number in range(451):
        (tmp_path / f"{number}.csv").unlink()
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(12_000_000_000)
    emit(event)
    assert len(said) == 1
    now[0] += 61.0
    emit(event)
    assert len(said) == 2
    assert len(heard) == 4


@pytest.mark.parametrize("order", [{}, {"run_id": None, "generation": "x"}, {"generation": [], "bundle_sha256": 5}])
def test_an_order_that_cannot_be_read_still_has_a_result(order: dict[str, Any]) -> None:
    SessionResult(**session_fields(order), **failure(ConfigError("no order")))
