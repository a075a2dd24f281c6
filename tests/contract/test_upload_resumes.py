"""An upload that ended with its process goes on in the next one, with the same bytes or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_kaggle import ScriptedKaggle, SeenRequest, answer
from test_kaggle_api_datasets import DATA, World, publish

from kaggle_manager.errors import Unavailable
from kaggle_manager.platforms.kaggle import resumable_uploads
from kaggle_manager.platforms.kaggle.resumable_uploads import OpenUpload, UploadMemory

ARRIVED = 200_000


@pytest.fixture(autouse=True)
def also_small_files_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_uploads, "WORTH_REMEMBERING", 1)


@pytest.fixture
def kaggle():
    with ScriptedKaggle() as scripted:
        yield scripted


@pytest.fixture
def memory(tmp_path) -> UploadMemory:
    return UploadMemory(tmp_path / "uploads")


@pytest.fixture
def pack(tmp_path) -> Path:
    path = tmp_path / "training_tree.pack"
    path.write_bytes(DATA)
    return path


def cut(kaggle: ScriptedKaggle, world: World, pack: Path, memory: UploadMemory) -> None:
    """A process whose upload got so far, and that gave up."""

    def some(handler, seen: SeenRequest) -> None:
        world.arrived = seen.body[:ARRIVED]
        answer({}, 503)(handler, seen)

    kaggle.script("upload", some, answer({}, 503))
    with pytest.raises(Unavailable):
        publish(kaggle, pack, memory=memory)
    kaggle.script("upload", world.upload)
    kaggle.seen.clear()


def spans(kaggle: ScriptedKaggle) -> list[str | None]:
    return [seen.headers.get("content-range") for seen in kaggle.asked("upload")]


def test_another_process_goes_on_where_the_upload_was_cut(kaggle, pack, memory, tmp_path):
    world = World(kaggle)
    cut(kaggle, world, pack, memory)
    told = []
    publish(kaggle, pack, memory=UploadMemory(tmp_path / "uploads"), on_progress=lambda *seen: told.append(seen))
    assert spans(kaggle) == [f"bytes */{len(DATA)}", f"bytes {ARRIVED}-{len(DATA) - 1}/{len(DATA)}"]
    assert kaggle.asked("StartBlobUpload") == []
    assert world.arrived == DATA
    assert told[0] == ("training_tree.pack", ARRIVED, len(DATA))  # what had arrived is no speed
    assert told[-1] == ("training_tree.pack", len(DATA), len(DATA))


def test_another_content_is_another_upload(kaggle, pack, memory):
    world = World(kaggle)
    cut(kaggle, world, pack, memory)
    pack.write_bytes(DATA[::-1])
    publish(kaggle, pack, memory=memory)
    assert spans(kaggle) == [None]
    assert world.arrived == DATA[::-1]


def test_an_upload_that_the_host_forgot_is_begun_again(kaggle, pack, memory):
    world = World(kaggle)
    cut(kaggle, world, pack, memory)
    kaggle.script("upload", answer({}, 410), world.upload)
    publish(kaggle, pack, memory=memory)
    assert len(kaggle.asked("StartBlobUpload")) == 1
    assert world.arrived == DATA


def test_a_token_is_used_once(kaggle, pack, memory, tmp_path):
    World(kaggle)
    publish(kaggle, pack, memory=memory)
    publish(kaggle, pack, memory=memory)
    assert len(kaggle.asked("StartBlobUpload")) == 2
    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_is_remembered_is_for_this_user_alone(kaggle, pack, memory, tmp_path):
    cut(kaggle, World(kaggle), pack, memory)
    (written,) = (tmp_path / "uploads").iterdir()
    assert written.stat().st_mode & 0o077 == 0
    assert "upload" not in repr(UploadMemory.recall(written))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"token": "t"}', b"\xff"])
def test_a_memory_that_cannot_be_read_is_none(kaggle, pack, memory, tmp_path, text):
    world = World(kaggle)
    cut(kaggle, world, pack, memory)
    (written,) = (tmp_path / "uploads").iterdir()
    written.write_bytes(text)
    publish(kaggle, pack, memory=memory)
    assert world.arrived == DATA


def test_an_address_elsewhere_is_not_followed_because_it_was_written_down(kaggle, pack, memory, tmp_path):
    world = World(kaggle)
    cut(kaggle, world, pack, memory)
    (written,) = (tmp_path / "uploads").iterdir()
    UploadMemory.remember(written, OpenUpload("t1", "http://files.example/upload"))
    with pytest.raises(Exception, match="not to be trusted"):
        publish(kaggle, pack, memory=memory)
    assert kaggle.asked("upload") == []


def test_a_disk_that_refuses_costs_the_memory_alone(kaggle, pack, tmp_path):
    (tmp_path / "uploads").write_text("a file where a folder should be")
    world = World(kaggle)
    publish(kaggle, pack, memory=UploadMemory(tmp_path / "uploads"))
    assert world.arrived == DATA
