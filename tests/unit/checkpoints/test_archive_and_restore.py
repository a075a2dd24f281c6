"""A tree that travels: restored all or nothing, packed deterministically, unpacked without trust."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trees import reseal

from kaggle_manager import checkpoints
from kaggle_manager.checkpoints import (
    CheckpointStore,
    Disk,
    Lineage,
    ReplayCommit,
    SegmentRef,
    TrainingMetadata,
    TrainingTree,
    archive_tree,
    pack_tree,
    read_index,
    read_metadata,
    restore_tree,
    unpack_tree,
    write_metadata,
)
from kaggle_manager.errors import (
    CheckpointCorrupt,
    CheckpointIncompatible,
    CheckpointNotFound,
    LineageMismatch,
    OutputDamaged,
    StorageError,
    UnsafePath,
)
from kaggle_manager.system.files import sha256_bytes

SCENARIO = "traffic"


def grow(root: Path, *, generation: int = 1, steps: tuple[int, ...] = (1, 2), run_id: str = "run") -> TrainingTree:
    """Make a tree as a session leaves it: two latest with shared rows, best, final, history, metadata."""
    tree = TrainingTree(root, SCENARIO)
    store = CheckpointStore(tree, warn=pytest.fail)
    common: dict[str, Any] = {"target": 9, "lineage": Lineage(run_id, generation, None, 0), "bundle_sha256": "b" * 64}
    tree.replay.mkdir(parents=True, exist_ok=True)
    for step in steps:
        rows = f"rows of {run_id}, to {step}".encode() * 9
        (tree.replay / f"segment_{step}.bin").write_bytes(rows + b"junk behind the committed tail")
        ref = SegmentRef(f"segment_{step}.bin", 0, step, len(rows), sha256_bytes(rows))
        replay = ReplayCommit(step, 8, (ref,))
        state = f"state {run_id} {step}".encode()
        store.save_latest(step=step, files={"model": f"model {step}".encode(), "state": state}, replay=replay, **common)
    store.save_best(score=-5.0, step=steps[0], files={"model": b"best"}, **common)
    store.save_final(step=steps[-1], files={"model": b"final", "replay_buffer": b"pkl"}, **common)
    (tree.history / "tensorboard").mkdir(parents=True)
    (tree.history / "tensorboard" / "events.1").write_bytes(b"curve")
    (tree.history / "monitor.csv").write_bytes(b"r,l,t\n")
    tree.metadata.write_bytes(b"{}")
    return tree


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def restore(source: TrainingTree, tree: TrainingTree, **options: Any) -> checkpoints.RestoreReport:
    expected = {"run_id": "run", "generation": 1, "min_step": 0, "keep_replaced": tree.root.parent / "kept"}
    return restore_tree(source.root, tree, **{**expected, "warn": pytest.fail, **options})


@pytest.fixture
def source(tmp_path: Path) -> TrainingTree:
    return grow(tmp_path / "download" / "training_tree")


@pytest.fixture
def local(tmp_path: Path) -> TrainingTree:
    return TrainingTree(tmp_path / "data" / "models", SCENARIO)


def test_a_restored_tree_is_found_by_the_trainers_own_search(source: TrainingTree, local: TrainingTree) -> None:
    report = restore(source, local)
    found = checkpoints.find_latest_checkpoint(local.root, SCENARIO)
    assert found is not None
    assert (report.step, report.manifest_sha256) == (found.step, found.manifest.sha256) == (2, report.manifest_sha256)
    assert report.replaced is None
    assert dict(report.files) == {name: len(data) for name, data in content(local.root).items()}
    assert "history/tensorboard/events.1" in content(local.root)
    assert not any(data.endswith(b"tail") for data in content(local.root).values())


def test_the_replaced_tree_is_kept_aside_whole(source: TrainingTree, local: TrainingTree) -> None:
    grow(local.root, steps=(1,))
    before = content(local.root)
    report = restore(source, local)
    assert report.replaced is not None
    assert content(report.replaced) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed"])
def test_a_damaged_file_is_never_restored_and_its_checkpoint_is_named(
    source: TrainingTree, tmp_path: Path, damage: str
) -> None:
    committed = [name for name in content(source.root) if not name.startswith(("history", "training_metadata"))]
    if damage == "removed":
        committed = [name for name in committed if not name.endswith(".manifest.json")]  # nothing names these
    for number, name in enumerate(committed):
        path = source.root / name
        kept = path.read_bytes()
        match damage:
            case "cut":
                path.write_bytes(kept[: len(kept) // 2])
            case "flipped":
                path.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
            case "removed":
                path.unlink()
        local = TrainingTree(tmp_path / str(number), SCENARIO)
        report = restore(source, local)
        (problem,) = report.left_out
        assert path.name.split(".")[0] in problem
        assert name not in content(local.root)
        path.write_bytes(kept)


def test_a_source_none_of_whose_checkpoints_verifies_restores_nothing(
    source: TrainingTree, local: TrainingTree
) -> None:
    grow(local.root, steps=(1,))
    before = content(local.root)
    for step in (1, 2):
        (source.checkpoints / source.name("latest", "model", step)).write_bytes(b"")
    with pytest.raises(OutputDamaged, match="No checkpoint"):
        restore(source, local)
    assert content(local.root) == before


def test_what_is_left_out_does_not_make_a_step_that_was_asked_for(source: TrainingTree, local: TrainingTree) -> None:
    (source.checkpoints / source.name("latest", "model", 2)).write_bytes(b"")
    with pytest.raises(LineageMismatch, match="at least 2"):
        restore(source, local, min_step=2)
    assert not local.root.exists()


@pytest.mark.parametrize(
    "expected", [{"run_id": "another"}, {"generation": 2}, {"min_step": 3}], ids=["run", "generation", "older"]
)
def test_a_foreign_or_older_tree_is_an_error(
    source: TrainingTree, local: TrainingTree, expected: dict[str, Any]
) -> None:
    with pytest.raises(LineageMismatch):
        restore(source, local, **expected)
    assert not local.root.exists()


def test_an_older_step_never_replaces_a_newer_one_of_the_same_run(source: TrainingTree, local: TrainingTree) -> None:
    grow(local.root, steps=(2, 3))
    with pytest.raises(LineageMismatch, match="tree here is at 3"):
        restore(source, local)


def test_an_empty_tree_is_an_error_never_normal_for_a_first_run(tmp_path: Path, local: TrainingTree) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CheckpointNotFound):
        restore(TrainingTree(tmp_path / "nothing", SCENARIO), local)


def test_a_symbolic_link_in_the_source_is_refused(source: TrainingTree, local: TrainingTree) -> None:
    (source.history / "link").symlink_to("/etc/hostname")
    with pytest.raises(UnsafePath):
        restore(source, local)


class DyingDisk(Disk):
    """Dies instead of its n-th effect."""

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def write(self, path: Path, data: bytes) -> None:
        self._live()
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._live()
        super().sync(path)

    def replace(self, source: Path, destination: Path) -> None:
        self._live()
        super().replace(source, destination)

    def sync_folder(self, path: Path) -> None:
        self._live()
        super().sync_folder(path)


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """A folder in memory where the machine has one: the test below syncs some ten thousand times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="restore_", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def test_a_restore_that_dies_at_any_call_is_finished_or_undone_at_the_next_start(
    source: TrainingTree, quick_folder: Path
) -> None:
    outcomes = set()
    old = grow(quick_folder / "old", steps=(1,))
    before = content(old.root)
    for number in range(200):
        local = TrainingTree(quick_folder / str(number) / "models", SCENARIO)
        shutil.copytree(old.root, local.root)
        try:
            restore(source, local, disk=DyingDisk(number))
        except KeyboardInterrupt:
            found = CheckpointStore(local, warn=pytest.fail).claim_latest_checkpoint()
            assert found is not None, f"died at call {number}"
            outcomes.add(found.step)
            if found.step == 1:
                assert content(local.root) == before
            restore(source, local)
            assert not [path for path in local.root.parent.iterdir() if path.suffix in (".incoming", ".ready")]
        else:
            break
    assert number > 30
    assert outcomes == {1, 2}, "both sides of the commit were seen"


def test_an_archived_tree_keeps_its_replay_and_says_why(source: TrainingTree, tmp_path: Path) -> None:
    before = content(source.root)
    kept = archive_tree(source, tmp_path / "archive" / "refused", "another network")
    assert content(kept) == {**before, "reason.txt": b"another network\n"}
    assert not source.root.exists()
    assert archive_tree(grow(source.root), tmp_path / "archive" / "refused", "again") != kept
    with pytest.raises(CheckpointNotFound):
        archive_tree(source, tmp_path / "archive" / "refused", "there is none")


# ---------------------------------------------------------------------------------------------------------- the pack


def test_the_same_tree_packs_to_the_same_bytes_and_unpacks_to_the_same_tree(
    source: TrainingTree, tmp_path: Path
) -> None:
    first = [path.read_bytes() for path in pack_tree(source, tmp_path / "one")]
    for path in source.root.rglob("*"):
        path.touch()
    assert [path.read_bytes() for path in pack_tree(source, tmp_path / "two")] == first
    index = unpack_tree(tmp_path / "one", tmp_path / "unpacked", warn=pytest.fail)
    unpacked = TrainingTree(tmp_path / "unpacked", SCENARIO)
    pack_tree(unpacked, tmp_path / "three")
    assert [path.read_bytes() for path in sorted((tmp_path / "three").iterdir(), reverse=True)] == first
    head = CheckpointStore(unpacked).find_latest_checkpoint()
    assert head is not None
    assert index == read_index(tmp_path / "one")
    assert (index.step, index.head_manifest_sha256) == (head.step, head.manifest.sha256)


def test_a_tree_is_packed_without_its_damaged_checkpoint(source: TrainingTree, tmp_path: Path) -> None:
    (source.checkpoints / source.name("latest", "model", 2)).write_bytes(b"")
    pack_tree(source, tmp_path / "pack")
    assert unpack_tree(tmp_path / "pack", tmp_path / "unpacked", warn=pytest.fail).step == 1
    (head,) = CheckpointStore(TrainingTree(tmp_path / "unpacked", SCENARIO)).valid_checkpoints()
    assert head.step == 1
    (source.checkpoints / source.name("latest", "model", 1)).write_bytes(b"")
    with pytest.raises(OutputDamaged):
        pack_tree(source, tmp_path / "refused")


def repack(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]], **changes: Any) -> None:
    """Write a hostile pack whose index has the right size, whatever is in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    (folder / "training_tree.pack").write_bytes(stream.getvalue())
    index = json.loads((folder / "training_tree.json").read_bytes())
    index |= {"pack_size": len(stream.getvalue()), **changes}
    (folder / "training_tree.json").write_bytes(reseal(index))


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escape", b"x"),
        member("/absolute", b"x"),
        member("checkpoints/extra.zip", b"x"),
        member("best_model/best_model.manifest.json", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("best_model/best_model.manifest.json", kind=tarfile.LNKTYPE, link="/etc/passwd"),
        member("best_model", kind=tarfile.DIRTYPE),
        member("best_model/best_model.manifest.json", b"other bytes"),
    ],
    ids=["climbs", "absolute", "extra", "symlink", "hard link", "folder", "altered"],
)
def test_a_hostile_member_unpacks_nothing(
    source: TrainingTree, tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes]
) -> None:
    pack_tree(source, tmp_path / "packed")
    repack(tmp_path / "packed", [hostile])
    with pytest.raises(OutputDamaged):
        unpack_tree(tmp_path / "packed", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"files": [{"name": "../x", "size": 1, "sha256": "0" * 64}]}, UnsafePath),
        ({"files": [{"name": "bomb", "size": 1 << 50, "sha256": "0" * 64}]}, OutputDamaged),
        ({"files": [{"name": "bomb", "size": 1 << 30, "sha256": "0" * 64}]}, OutputDamaged),
        ({"files": [{"name": "a", "size": 0, "sha256": "0" * 64}] * 2}, OutputDamaged),
        ({"files": "all"}, OutputDamaged),
        ({"schema": 1}, CheckpointIncompatible),
        ({"schema": 3}, CheckpointIncompatible),
        ({"head_manifest_sha256": "0" * 64}, OutputDamaged),
        ({"pack_size": 17}, OutputDamaged),
    ],
    ids=["climbs", "bomb", "larger than its pack", "twice", "nonsense", "older", "newer", "other head", "other size"],
)
def test_a_lying_index_unpacks_nothing(
    source: TrainingTree, tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    pack_tree(source, tmp_path / "packed")
    path = tmp_path / "packed" / "training_tree.json"
    path.write_bytes(reseal(json.loads(path.read_bytes()) | changes))
    with pytest.raises(error):
        unpack_tree(tmp_path / "packed", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_every_truncation_of_a_pack_is_noticed(source: TrainingTree, tmp_path: Path) -> None:
    pack, _ = pack_tree(source, tmp_path / "packed")
    whole = pack.read_bytes()
    for length in range(0, len(whole), 512):
        pack.write_bytes(whole[:length])
        with pytest.raises(OutputDamaged):
            unpack_tree(tmp_path / "packed", tmp_path / "unpacked")


def test_unpacking_over_something_is_refused(source: TrainingTree, tmp_path: Path) -> None:
    pack_tree(source, tmp_path / "packed")
    with pytest.raises(StorageError, match="not empty"):
        unpack_tree(tmp_path / "packed", source.root)


# ------------------------------------------------------------------------------------------------ metadata, packaging


def test_metadata_comes_back_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    metadata = TrainingMetadata(
        scenario=SCENARIO,
        algorithm="DQN",
        hyperparameters={"gamma": 0.99},
        observation_space_shape=[26],
        action_space_shape=[2],
        policy_architecture=[64, 64],
        environment_fingerprint="e",
        reward_fingerprint="r",
        library_versions={"python": "3.11"},
        device="cpu",
        timesteps_target=100,
        timesteps_done=10,
        training_seconds=1.5,
        updated_at="2026-01-01T00:00:00+00:00",
    )
    path = tmp_path / "models" / "training_metadata.json"
    assert read_metadata(path) is None
    write_metadata(path, metadata)
    assert read_metadata(path) == metadata
    for rubbish in (b"", b"[]", b'{"schema": "2"}', b'{"schema": 2, "unknown": 2}'):
        path.write_bytes(rubbish)
        with pytest.raises(CheckpointCorrupt, match="cannot be understood"):
            read_metadata(path)
    path.write_bytes(metadata.to_bytes().replace(b'"schema": 2', b'"schema": 1'))
    with pytest.raises(CheckpointIncompatible, match="an earlier development version"):
        read_metadata(path)


ISOLATED = """
import sys
sys.path[:0] = {paths}
from pathlib import Path
from kaggle_manager import checkpoints
assert "numpy" not in sys.modules
tree = checkpoints.TrainingTree(Path({root}), "traffic")
store = checkpoints.CheckpointStore(tree)
lineage = checkpoints.Lineage("r", 1, None, 0)
store.save_latest(step=1, target=2, lineage=lineage, bundle_sha256="", files={{"model": b"m", "state": b"s"}})
assert store.find_latest_checkpoint().step == 1
{more}
"""


@pytest.mark.parametrize("with_numpy", [False, True], ids=["standard library", "numpy"])
def test_the_package_works_in_an_interpreter_that_has_nothing_else(tmp_path: Path, with_numpy: bool) -> None:
    package = Path(checkpoints.__file__).parent
    alone = tmp_path / "alone" / "kaggle_manager"
    for room in (package, package.parent / "system"):  # the rooms that this one may import, see `test_layers`
        (alone / room.name).mkdir(parents=True)
    system = (package.parent / "system").glob("*.py")
    for path in [*package.glob("*.py"), *system, package.parent / "__init__.py", package.parent / "errors.py"]:
        (alone / path.relative_to(package.parent)).write_bytes(path.read_bytes())
    paths, more = [str(alone.parent)], ""
    if with_numpy:
        np = pytest.importorskip("numpy")
        only_numpy = tmp_path / "only_numpy"
        only_numpy.mkdir()
        site = Path(np.__file__).parents[1]
        for name in ("numpy", "numpy.libs"):
            with contextlib.suppress(FileNotFoundError):
                (only_numpy / name).symlink_to((site / name).resolve(strict=True))
        paths.append(str(only_numpy))
        more = "import kaggle_manager.checkpoints.replay_log"
    code = ISOLATED.format(paths=paths, root=repr(str(tmp_path / "models")), more=more)
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_public_names_are_those_announced() -> None:
    assert checkpoints.__all__ == sorted(checkpoints.__all__)
    assert all(hasattr(checkpoints, name) for name in checkpoints.__all__)
