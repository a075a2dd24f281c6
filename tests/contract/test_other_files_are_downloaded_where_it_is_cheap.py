"""What a user's code left is downloaded beside the session's files, within bounds; no failure of that is the run's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_kaggle import ScriptedKaggle, answer, serve_file

from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.protocol.session_result import OtherFile, OtherFiles, SessionResult
from kaggle_manager.sessions import other_files
from kaggle_manager.sessions.other_files import OTHERS_FOLDER, download_others

VERSION = SessionRef("alice", "km-run", "7")
FILES = {"a.csv": b"1234", "kernel.log": b"not the log", "session_result.json": b"{}", "B.csv": b"12", "b.csv": b"123"}


@pytest.fixture
def kaggle() -> Iterator[ScriptedKaggle]:
    with ScriptedKaggle() as server:
        yield server


def left(*names: str, count: int = 0, packed: int = 0) -> SessionResult:
    named = tuple(OtherFile(name=name, size=len(FILES.get(name, b""))) for name in names)
    others = OtherFiles(count=count or len(named), size=sum(file.size for file in named), named=named, packed=packed)
    return SessionResult(outcome="completed", exit_code=0, run_id="r", generation=1, bundle_sha256="b", others=others)


def serves(kaggle: ScriptedKaggle, *names: str) -> None:
    files = [{"fileName": name, "url": f"{kaggle.url}/{name}"} for name in names]
    kaggle.script("ListKernelSessionOutput", answer({"files": files, "log": ""}))
    for name in names:
        kaggle.script(name, serve_file(FILES[name]))


def there(folder: Path) -> dict[str, bytes]:
    root = folder / OTHERS_FOLDER
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_they_lie_in_a_folder_of_their_own_whatever_they_are_called(kaggle: ScriptedKaggle, tmp_path: Path) -> None:
    serves(kaggle, "a.csv", "kernel.log")
    words = download_others(kaggle.client(), VERSION, tmp_path, left("a.csv", "kernel.log"))
    assert there(tmp_path) == {name: FILES[name] for name in ("a.csv", "kernel.log")}
    assert words == "2 files besides the training's own, 15 B: a.csv, kernel.log; all downloaded"
    assert not (tmp_path / "kernel.log").exists()


def test_of_two_names_that_one_disk_may_not_tell_apart_one_is_downloaded(
    kaggle: ScriptedKaggle, tmp_path: Path
) -> None:
    serves(kaggle, "B.csv", "b.csv")
    words = download_others(kaggle.client(), VERSION, tmp_path, left("B.csv", "b.csv"))
    assert there(tmp_path) == {"B.csv": b"12"}
    assert "1 downloaded, the rest is on the platform" in words


def test_one_that_is_gone_keeps_no_other_away(kaggle: ScriptedKaggle, tmp_path: Path) -> None:
    serves(kaggle, "a.csv", "kernel.log")
    kaggle.script("a.csv", answer({}, 404))
    words = download_others(kaggle.client(), VERSION, tmp_path, left("a.csv", "kernel.log", "../climbs", "not listed"))
    assert there(tmp_path) == {"kernel.log": FILES["kernel.log"]}
    assert "1 downloaded" in words


def test_more_than_the_bound_is_left_where_it_is(
    kaggle: ScriptedKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(kaggle, "a.csv", "kernel.log")
    monkeypatch.setattr(other_files, "MOST_BYTES", 8)
    words = download_others(kaggle.client(), VERSION, tmp_path, left("a.csv", "kernel.log", count=700, packed=250))
    assert there(tmp_path) == {"a.csv": b"1234"}
    assert "a.csv, kernel.log and 698 more; 250 more are packed in one of them; 1 downloaded" in words
    assert "more than 8 B" in words
    # Of a session without a result no size is known before its bytes come.
    assert "more than 8 B" in download_others(kaggle.client(), VERSION, tmp_path, None)


def test_a_platform_that_does_not_answer_is_a_sentence(kaggle: ScriptedKaggle, tmp_path: Path) -> None:
    kaggle.script("ListKernelSessionOutput", answer({}, 404))
    words = download_others(kaggle.client(), VERSION, tmp_path, left("a.csv"))
    assert words.startswith("1 file besides the training's own, 4 B: a.csv; 0 downloaded")
    assert "cannot be listed" in words
    assert download_others(kaggle.client(), VERSION, tmp_path, None) == ""


def test_nothing_is_asked_of_a_session_that_left_nothing_else(kaggle: ScriptedKaggle, tmp_path: Path) -> None:
    assert download_others(kaggle.client(), VERSION, tmp_path, left()) == ""
    assert kaggle.seen == []


def test_of_a_session_without_a_result_what_is_listed_beside_its_tree_is_told(
    kaggle: ScriptedKaggle, tmp_path: Path
) -> None:
    files = [{"fileName": name, "url": f"{kaggle.url}/{name}"} for name in ("training_tree/x", "session_start.json")]
    odd = [{"fileName": "red\x1b[31m", "url": "u"}, {"fileName": "a.csv", "url": f"{kaggle.url}/a.csv"}]
    kaggle.script("ListKernelSessionOutput", answer({"files": [*files, *odd], "log": json.dumps([])}))
    kaggle.script("a.csv", serve_file(FILES["a.csv"]))
    words = download_others(kaggle.client(), VERSION, tmp_path, None)
    assert words == "2 files besides the training's own: a.csv, red; 1 downloaded, the rest is on the platform"
    assert there(tmp_path) == {"a.csv": b"1234"}
