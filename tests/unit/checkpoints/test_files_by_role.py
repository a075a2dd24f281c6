"""A checkpoint is any number of files by role; best and final may share large ones with it."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from crash_disks import Died, DyingDisk
from small_trees import content, flip, reseal

from kaggle_manager.checkpoints import (
    CheckpointStore,
    Disk,
    Lineage,
    TrainingTree,
    contents,
    pack_tree,
    restore_tree,
    unpack_tree,
)
from kaggle_manager.checkpoints.archive import INDEX_NAME
from kaggle_manager.errors import CheckpointCorrupt, OutputDamaged, UnsafePath
from kaggle_manager.trees.inspect import look_at, verify_tree

COMMON: dict[str, Any] = {"target": 9, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": ""}
OWN = "nets/critic/weights.bin"


class CountingDisk(Disk):
    """Counts the bytes it writes."""

    written = 0

    def write(self, path: Path, data: bytes) -> None:
        self.written += len(data)
        super().write(path, data)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self.written += len(data)
        super().write_at(path, offset, data)


class DiskWithoutLinks(CountingDisk):
    def link(self, source: Path, destination: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(source))


@pytest.fixture
def tree(tmp_path: Path) -> TrainingTree:
    return TrainingTree(tmp_path / "models", "cart")


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SHARED_FROM", 0)


def store_of(tree: TrainingTree, disk: Disk | None = None) -> CheckpointStore:
    return CheckpointStore(tree, disk=disk, warn=lambda _: None)


def save(store: CheckpointStore, step: int) -> Any:
    files = {"model": b"model %d" % step * 1000, "state": b"state %d" % step, OWN: b"own %d" % step}
    return store.save_latest(step=step, files=files, **COMMON)


def test_a_scripts_own_files_are_saved_read_rotated_and_travel_in_folders_of_their_own(
    tree: TrainingTree, tmp_path: Path
) -> None:
    store = store_of(tree)
    for step in (1, 2, 3):
        save(store, step)
    newest = store.find_latest_checkpoint()
    assert newest is not None
    assert newest.read(OWN) == b"own 3"
    assert newest.path(OWN) == tree.checkpoints / f"cart_checkpoint_3_steps.files/{OWN}"
    folders = sorted(path.name for path in tree.checkpoints.iterdir() if path.is_dir())
    assert folders == ["cart_checkpoint_2_steps.files", "cart_checkpoint_3_steps.files"], "nothing is left of the first"
    store.save_best(score=1.0, step=3, files=newest.usable() | {OWN: newest.shared(OWN)}, **COMMON)
    assert not store.recover()
    pack_tree(tree, tmp_path / "pack")
    unpack_tree(tmp_path / "pack", tmp_path / "unpacked")
    again = TrainingTree(tmp_path / "again", "cart")
    restore_tree(tmp_path / "unpacked", again, keep_replaced=tmp_path / "kept")
    assert content(again.root) == content(tree.root)
    assert verify_tree(again).problems == ()
    flip(again.path("latest", OWN, 2))
    assert [view.hash_state for view in look_at(again)] == ["verified", "damaged", "verified"]


@pytest.mark.parametrize("role", ["../climbs", "/absolute", "a//b", "nets/../x", "weights.next", "weights.tmp", "a\nb"])
def test_a_role_that_is_no_path_of_safe_names_is_refused_before_a_byte_is_written(
    tree: TrainingTree, role: str
) -> None:
    with pytest.raises(UnsafePath):
        store_of(tree).save_latest(step=1, files={"model": b"m", role: b"x"}, **COMMON)
    assert not tree.root.exists()


def test_a_shared_file_is_written_once_and_outlives_the_checkpoint_it_was_of(tree: TrainingTree) -> None:
    disk = CountingDisk()
    store = store_of(tree, disk)
    first = save(store, 1)
    before = disk.written
    store.save_best(score=1.0, step=1, files=first.usable(), **COMMON)
    assert disk.written - before < 1000, "a manifest, and no model of 7,000 bytes"
    assert tree.best_model.samefile(first.path("model"))
    save(store, 2)
    save(store, 3)
    best = store.best()
    assert best is not None
    assert not first.path("model").exists()
    assert best.read("model") == b"model 1" * 1000


def test_where_a_disk_has_no_links_a_shared_file_is_copied(tree: TrainingTree) -> None:
    store = store_of(tree, DiskWithoutLinks())
    first = save(store, 1)
    store.save_best(score=1.0, step=1, files=first.usable(), **COMMON)
    assert not tree.best_model.samefile(first.path("model"))
    assert tree.best_model.read_bytes() == first.read("model")


def test_a_small_shared_file_is_copied_so_that_damage_to_one_is_not_damage_to_both(
    tree: TrainingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SHARED_FROM", 7001)
    store = store_of(tree)
    store.save_best(score=1.0, step=1, files=save(store, 1).usable(), **COMMON)
    tree.best_model.write_bytes(b"a user's program has saved over it")
    assert store.find_latest_checkpoint() is not None


def test_a_commit_that_was_cut_is_never_written_through_a_link_it_left(tree: TrainingTree) -> None:
    """What lies there under a pending name is a second name of a committed file."""
    first = save(store_of(tree), 1)
    for call in range(100):
        try:
            store_of(tree, DyingDisk(call)).save_best(score=1.0, step=1, files=first.usable(), **COMMON)
        except Died:
            store_of(tree).save_best(score=2.0 + call, step=1, files={"model": b"another"}, **COMMON)
            assert first.read("model") == b"model 1" * 1000, f"died at call {call}"
            shutil.rmtree(tree.best_folder)  # the next one may share again
        else:
            return
    pytest.fail("it never came to its end")


def test_what_does_not_read_back_replaces_nothing(tree: TrainingTree) -> None:
    store = store_of(tree)
    store.save_best(score=1.0, step=1, files={"model": b"the best so far"}, **COMMON)
    damaged = save(store, 2)
    flip(damaged.path("model"))
    with pytest.raises(CheckpointCorrupt, match="does not read back"):
        store.save_best(score=2.0, step=2, files=damaged.usable(), **COMMON)
    best = store.best()
    assert best is not None
    assert best.read("model") == b"the best so far"
    assert [path.name for path in tree.quarantine.rglob("*.next")], "what was written is put aside, not deleted"
    assert not list(tree.best_folder.glob("*.next"))


def test_a_file_that_is_the_same_as_before_leaves_none_under_its_pending_name(
    tree: TrainingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tree)
    first = save(store, 1)
    for score in (1.0, 2.0):  # a second name of the same file, of which a rename does nothing
        store.save_best(score=score, step=1, files=first.usable(), **COMMON)
    again = save(store, 1)
    monkeypatch.setattr(contents, "SHARED_FROM", 1 << 20)
    store.save_best(score=3.0, step=1, files=again.usable(), **COMMON)  # other bytes, which are the same
    assert not list(tree.root.rglob("*.next"))
    assert verify_tree(tree).problems == ()


@pytest.mark.parametrize("level", ["best", "final"])
def test_statistics_lie_beside_the_model_they_are_of_and_no_other(tree: TrainingTree, level: Any) -> None:
    store = store_of(tree)

    def save_one(step: int, files: dict[str, contents.Content]) -> None:
        if level == "best":
            store.save_best(score=float(step), step=step, files=files, **COMMON)
        else:
            store.save_final(step=step, files=files, **COMMON)

    save_one(1, {"model": b"m", "statistics": b"s"})
    assert tree.path(level, "statistics") == tree.folder(level) / "vecnormalize.pkl"
    assert tree.path(level, "statistics").read_bytes() == b"s"
    save_one(2, {"model": b"without"})
    assert not tree.path(level, "statistics").exists()


def test_statistics_that_the_users_code_has_left_there_stay(tree: TrainingTree) -> None:
    store = store_of(tree)
    theirs = [folder / "vecnormalize.pkl" for folder in (tree.checkpoints, tree.best_folder, tree.root)]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
    for step in (1, 2, 2):
        checkpoint = save(store, step)
        store.save_best(score=float(step), step=step, files=checkpoint.usable(), **COMMON)
        store.save_final(step=step, files=checkpoint.usable(), **COMMON)
    assert [path.read_bytes() for path in theirs] == [b"theirs"] * 3


def test_what_files_have_in_common_is_packed_once_and_kept_once_again(tree: TrainingTree, tmp_path: Path) -> None:
    store = store_of(tree)
    newest = save(store, 1)
    pack, _ = pack_tree(tree, tmp_path / "alone")
    alone = pack.stat().st_size
    store.save_best(score=1.0, step=1, files=newest.usable(), **COMMON)
    store.save_final(step=1, files=newest.usable(), **COMMON)
    pack, _ = pack_tree(tree, tmp_path / "pack")
    assert pack.stat().st_size - alone < 7000, "two manifests, and no model of 7,000 bytes"
    unpack_tree(tmp_path / "pack", tmp_path / "unpacked")
    again = TrainingTree(tmp_path / "again", "cart")
    restore_tree(tmp_path / "unpacked", again, keep_replaced=tmp_path / "kept")
    for there in (TrainingTree(tmp_path / "unpacked", "cart"), again):
        assert content(there.root) == content(tree.root)
        assert verify_tree(there).problems == ()
        assert there.best_model.samefile(there.path("latest", "model", 1))


def test_curves_that_have_their_bytes_in_common_with_another_file_are_packed_and_unpacked(
    tree: TrainingTree, tmp_path: Path
) -> None:
    """No manifest says what a curve is, so it is packed as it is then; and it is no second name: it grows."""
    newest = save(store_of(tree), 1)
    tree.history.mkdir()
    for name, data in (("a", b""), ("b", b""), ("c", newest.read("model"))):
        (tree.history / name).write_bytes(data)
    pack_tree(tree, tmp_path / "pack")
    unpack_tree(tmp_path / "pack", tmp_path / "unpacked")
    assert content(tmp_path / "unpacked") == content(tree.root)
    there = TrainingTree(tmp_path / "unpacked", "cart")
    assert not (there.history / "c").samefile(there.path("latest", "model", 1))


def test_a_file_that_is_announced_smaller_than_that_of_its_bytes_is_not_written(
    tree: TrainingTree, tmp_path: Path
) -> None:
    save(store_of(tree), 1)
    pack_tree(tree, tmp_path / "pack")
    listing = tmp_path / "pack" / INDEX_NAME
    body = json.loads(listing.read_bytes())
    [model] = (file for file in body["files"] if file["name"].endswith(".zip"))
    body["files"].append({**model, "name": "z.zip", "size": 0})
    listing.write_bytes(reseal(body))
    with pytest.raises(OutputDamaged, match=r"z\.zip is announced and not in"):
        unpack_tree(tmp_path / "pack", tmp_path / "unpacked")
    assert not list(tmp_path.rglob("z.zip"))


def test_a_pack_that_would_grow_beyond_what_a_tree_can_have_is_refused_before_a_byte(
    tree: TrainingTree, tmp_path: Path
) -> None:
    save(store_of(tree), 1)
    pack_tree(tree, tmp_path / "pack")
    listing = tmp_path / "pack" / INDEX_NAME
    body = json.loads(listing.read_bytes())
    [model] = (file for file in body["files"] if file["name"].endswith(".zip"))
    body["files"] += [{**model, "name": f"z/{number:04}.zip"} for number in range(3000)]
    listing.write_bytes(reseal(body))
    unpack_tree(tmp_path / "pack", tmp_path / "small enough".replace(" ", "_"))
    for file in (file for file in body["files"] if file["sha256"] == model["sha256"]):
        file["size"] = 10 << 20
    listing.write_bytes(reseal(body))
    with pytest.raises(OutputDamaged, match="more bytes"):
        unpack_tree(tmp_path / "pack", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
