"""Who vouches for a checkpoint is known by its bytes, not by place or seal, and known before it is committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import CheckpointStore, Disk, FileEntry, Lineage, Manifest, TrainingTree
from kaggle_manager.checkpoints.atomic_io import LARGEST_READ
from kaggle_manager.checkpoints.vouched import FILE_NAME, Vouched, manifests_of
from kaggle_manager.errors import StorageError, UntrustedTree

MANIFEST = Manifest("latest", "walk", 20, 100, Lineage("run", 1, None, 0), "b" * 64, (FileEntry.of("a.zip", b"model"),))
CHANGED = replace(MANIFEST, files=(FileEntry.of("a.zip", b"moDel"),))


def require(vouched: Vouched, manifest: Manifest, *, trust: bool = False) -> str:
    return vouched.require(manifest, tree=Path("tree"), doing="The export", again="km export --trust", trust=trust)


def test_a_copy_is_known_wherever_it_lies_and_one_changed_byte_is_not(tmp_path: Path) -> None:
    vouched = Vouched(tmp_path)
    vouched.add([MANIFEST], "brought by session 1 of run r")
    assert Vouched(tmp_path).who(replace(MANIFEST)) == "brought by session 1 of run r"
    assert require(vouched, MANIFEST) == "brought by session 1 of run r"
    assert vouched.who(CHANGED) == ""
    assert Vouched(tmp_path / "another").who(MANIFEST) == ""


def test_what_nobody_vouches_for_is_refused_with_what_would_open_it_and_the_way_on(tmp_path: Path) -> None:
    vouched = Vouched(tmp_path)
    with pytest.raises(UntrustedTree, match=r"step 20 in tree.*The export would open the pickles") as refused:
        require(vouched, MANIFEST)
    assert "nothing of it was opened" in refused.value.safe
    assert "km export --trust" in refused.value.next_step
    assert not any(tmp_path.iterdir()), "a refusal leaves nothing behind"
    assert require(vouched, MANIFEST, trust=True) == "trusted by the user"
    assert require(vouched, MANIFEST) == "trusted by the user"


def test_a_line_that_was_cut_and_rubbish_take_nothing_from_the_others(tmp_path: Path) -> None:
    vouched = Vouched(tmp_path)
    vouched.add([MANIFEST], "made on this machine")
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(CHANGED.sha256[:40].encode() + b"\xff")
    vouched.add([replace(MANIFEST, step=30)], "made on this machine")
    assert vouched.who(MANIFEST)
    assert vouched.who(replace(MANIFEST, step=30))
    assert not vouched.who(CHANGED)


def test_the_newest_checkpoint_is_known_however_long_the_list_has_grown(tmp_path: Path) -> None:
    vouched = Vouched(tmp_path)
    line = f"{'0' * 64} made on this machine\n".encode()
    (tmp_path / FILE_NAME).write_bytes(line * (LARGEST_READ // len(line) + 1))
    vouched.add([MANIFEST], "made on this machine")
    assert vouched.who(MANIFEST) == "made on this machine"


def test_a_checkpoint_is_listed_before_it_is_committed(tmp_path: Path) -> None:
    class Dies(Disk):
        def replace(self, source: Path, destination: Path) -> None:
            raise SystemExit("killed")

    tree, vouched = TrainingTree(tmp_path / "tree", "walk"), Vouched(tmp_path)
    facts = {"target": 100, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": "b"}
    with pytest.raises(SystemExit):
        CheckpointStore(tree, disk=Dies(), vouched=vouched).save_latest(
            step=20, files={"model": b"m", "state": b"s"}, **facts
        )  # type: ignore[arg-type]
    assert (tmp_path / FILE_NAME).is_file()
    CheckpointStore(tree, vouched=vouched).save_latest(step=40, files={"model": b"m", "state": b"s"}, **facts)  # type: ignore[arg-type]
    committed = list(manifests_of(tree))
    assert 40 in [manifest.step for manifest in committed]
    assert all(vouched.who(manifest) for manifest in committed)


def test_a_list_that_the_disk_refuses_is_an_error_in_words(tmp_path: Path) -> None:
    class Refuses(Disk):
        def append(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device", str(path))

    with pytest.raises(StorageError, match=r"vouched\.txt failed: the disk is full"):
        Vouched(tmp_path, disk=Refuses()).add([MANIFEST], "made on this machine")
