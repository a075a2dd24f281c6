"""Large files are written, verified, copied and packed in blocks: never whole in memory."""

from __future__ import annotations

import errno
import gc
import hashlib
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kaggle_manager.checkpoints import (
    CheckpointStore,
    Disk,
    Lineage,
    TrainingTree,
    pack_tree,
    restore_tree,
    unpack_tree,
)
from kaggle_manager.checkpoints import contents as content
from kaggle_manager.checkpoints.contents import BLOCK, Streamed

LARGE = 12 * BLOCK
COMMON: dict[str, Any] = {"target": 10, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": ""}


def large(stream: BinaryIO) -> None:
    for number in range(LARGE // 1024):
        stream.write(number.to_bytes(4, "big") * 256)


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails when more is taken inside than a few blocks."""
    tracemalloc.start()
    yield
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < LARGE / 2, f"{taken:,} bytes of {LARGE:,}"


def test_a_streamed_content_is_measured_before_and_written_in_order(tmp_path: Path) -> None:
    with little_memory():
        streamed = Streamed(large)
        content.write(Disk(), tmp_path / "file", streamed)
    data = (tmp_path / "file").read_bytes()
    assert (streamed.size, streamed.sha256) == (len(data), hashlib.sha256(data).hexdigest()) == (LARGE, streamed.sha256)
    assert content.entry_of("file", streamed) == content.entry_of("file", data)


@pytest.mark.parametrize("write", [lambda _: None, lambda stream: stream.write(b"")])
def test_an_empty_content_replaces_what_was_there(tmp_path: Path, write: Callable[[BinaryIO], None]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    content.write(Disk(), path, Streamed(write))
    assert path.read_bytes() == b""
    path.write_bytes(b"old")
    content.write_blocks(Disk(), path, [])
    assert path.read_bytes() == b""


class FullDisk(Disk):
    """Refuses the first write."""

    def __init__(self) -> None:
        self.full = True

    def write(self, path: Path, data: Any) -> None:
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, data)


@pytest.mark.parametrize(
    "write",
    [
        lambda disk, path: content.write_blocks(disk, path, [b"block"]),
        lambda disk, path: content.write(disk, path, Streamed(lambda stream: stream.write(b"content"))),
    ],
    ids=["blocks", "streamed"],
)
def test_what_could_not_be_written_is_not_written_later(tmp_path: Path, write: Callable[[Disk, Path], None]) -> None:
    path = tmp_path / "file"
    with pytest.raises(OSError, match="No space") as refused:
        write(FullDisk(), path)
    path.write_bytes(b"another's")
    del refused
    gc.collect()  # closes what the error held
    assert path.read_bytes() == b"another's"


def test_a_large_final_model_is_saved_verified_packed_unpacked_and_restored_in_little_memory(tmp_path: Path) -> None:
    tree = TrainingTree(tmp_path / "models", "cart")
    store = CheckpointStore(tree)
    store.save_latest(step=10, files={"model": b"model", "state": b"state"}, **COMMON)
    with little_memory():
        store.save_final(step=10, files={"model": b"m", "replay_buffer": Streamed(large)}, **COMMON)
        assert store.final() is not None
        pack_tree(tree, tmp_path / "pack")
        unpack_tree(tmp_path / "pack", tmp_path / "unpacked")
        restore_tree(tmp_path / "unpacked", TrainingTree(tmp_path / "again", "cart"), keep_replaced=tmp_path / "kept")
    assert (tmp_path / "again" / tree.name("final", "replay_buffer")).read_bytes() == (
        tree.path("final", "replay_buffer")
    ).read_bytes()


def test_a_member_of_eight_gibibytes_has_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tar's oldest format has no digits for; the member's bytes are not written here."""
    tree = TrainingTree(tmp_path / "models", "cart")
    CheckpointStore(tree).save_latest(step=10, files={"model": b"model", "state": b"state"}, **COMMON)
    seen = []

    def headers_alone(self: tarfile.TarFile, member: tarfile.TarInfo, stream: Any) -> None:
        stream.read(1 << 30)
        member.size = 9 << 30
        header = member.tobuf(self.format, self.encoding, self.errors)
        seen.append(tarfile.TarInfo.frombuf(header, self.encoding, self.errors).size)

    monkeypatch.setattr(tarfile.TarFile, "addfile", headers_alone)
    pack_tree(tree, tmp_path / "pack")
    assert set(seen) == {9 << 30}
