"""From a script's folder into a training tree and back: every name and size, and nothing after the rename."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Lineage, TrainingTree
from kaggle_manager.errors import (
    CheckpointChanged,
    ContractBroken,
    Diverged,
    NothingSaved,
    SavedBackwards,
    StorageError,
)
from kaggle_manager.protocol.metrics import FILE, Metric
from kaggle_manager.sections.script import Best
from kaggle_manager.trainer.script import commits as module
from kaggle_manager.trainer.script import saves as saves_module
from kaggle_manager.trainer.script.commits import Commits
from kaggle_manager.trainer.script.metrics import Metrics
from kaggle_manager.trainer.script.saves import MOST_FILES, Saves, unpack
from kaggle_manager.trainer.script.session import _Run

NAMES = ["model.pt", ".metadata", "model", "state", "a b/ü.bin", "Case", "case", "x.next", "packed.tar", "CON", "e/f/g"]


class Tree:
    def __init__(self, folder: Path) -> None:
        self.saves, self.tree = Saves(folder / "scratch"), TrainingTree(folder / "tree", "toy")
        self.told: list[str] = []
        facts = {"target": 1000, "lineage": Lineage("run", 1, None, 0), "bundle_sha256": "", "identity": {}}
        store = CheckpointStore(self.tree, warn=self.told.append)
        self.commits = Commits(store, "toy", 1000, facts, b"", None, self.told.append, kept_bytes=None)

    def save(self, step: int, files: dict[str, bytes], metric: Metric | None = None) -> Checkpoint:
        folder = self.saves.folder / f"{step}.tmp"
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        folder.mkdir(exist_ok=True)
        folder.rename(self.saves.folder / str(step))
        (save,) = self.saves.take()
        return self.commits.commit(save, metric, 1.0)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("count", [0, 300])
def test_every_name_and_any_number_of_files_comes_back(count: int, tmp_path: Path) -> None:
    files = (
        {name: name.encode() * 3 for name in NAMES} | {f"shard/{n}.bin": b"%d" % n for n in range(count)} | {"e0": b""}
    )
    tree = Tree(tmp_path)
    checkpoint = tree.save(10, files)
    assert len(checkpoint.manifest.files) <= MOST_FILES + 1
    unpack(checkpoint, tmp_path / "back")
    assert read(tmp_path / "back") == files
    (tmp_path / "back/model.pt").write_bytes(b"the script writes into what it was given")
    assert CheckpointStore(tree.tree).find_latest_checkpoint() is not None


def test_a_large_file_that_has_not_changed_takes_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = os.urandom(17 << 20)
    tree = Tree(tmp_path)
    first = tree.save(10, {"frozen.bin": large, "head.bin": b"1"})
    second = tree.save(20, {"renamed.bin": large, "head.bin": b"2"})
    assert first.path("frozen.bin").samefile(second.path("renamed.bin"))
    assert second.path("renamed.bin").read_bytes() == large
    tree.commits.target = 20
    final = tree.commits.finish()
    assert final is not None
    assert final.path("renamed.bin").samefile(second.path("renamed.bin"))


def test_a_checkpoint_that_cannot_be_taken_out_of_the_folder_is_told_after_those_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = Saves(tmp_path)
    for step in (10, 20):
        (saves.folder / f"{step}").mkdir()
    rename = Path.rename

    def other_disk(path: Path, target: Path) -> Path:
        if path.name == "10":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", other_disk)
    assert [save.step for save in saves.take()] == [20]
    with pytest.raises(ContractBroken, match=r"step 10 cannot be taken out of its saves folder: Invalid cross-device"):
        saves.take()


def test_what_was_taken_waits_to_be_committed_also_where_the_next_point_ends_the_training(tmp_path: Path) -> None:
    saves, metrics = Saves(tmp_path), Metrics(tmp_path / "saves" / FILE, tmp_path / FILE)
    (saves.folder / "10").mkdir()
    take = saves.take

    def and_diverges() -> list[saves_module.Save]:
        (saves.folder / FILE).write_text('{"step": 11, "name": "loss", "value": NaN}\n')
        return take()

    saves.take = and_diverges  # type: ignore[method-assign]
    scenario = SimpleNamespace(best=None)
    run: Any = SimpleNamespace(
        saves=saves, metrics=metrics, scenario=scenario, _waiting=[], _lowest_save=None, _values={}
    )
    with pytest.raises(Diverged):
        _Run._look(run, is_over=False)
    assert [save.step for save in run._waiting] == [10]


def test_a_step_only_grows_and_a_second_folder_of_a_step_is_whole(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.save(10, {"a": b"1", "b": b"1"})
    with pytest.raises(SavedBackwards, match=r"saved step 9 after step 10.\nSafe: the checkpoint of step 10"):
        tree.save(9, {"a": b"1"})
    with pytest.raises(CheckpointChanged, match=r"wrote into its checkpoint of step 10 .* without a"):
        tree.save(10, {"b": b"2"})
    assert tree.save(10, {"a": b"3", "b": b"3"}).read("b") == b"3"
    with pytest.raises(NothingSaved, match="step 20 is an empty folder"):
        tree.save(20, {})
    newest = CheckpointStore(tree.tree).find_latest_checkpoint()
    assert newest is not None
    assert newest.step == 10


def test_what_is_written_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path)
    tree.save(10, {"a": b"1"})
    found = saves_module._sorted

    def and_writes(save: saves_module.Save, scenario: str) -> Any:
        result = found(save, scenario)
        with (save.folder / "a").open("ab") as file:
            file.write(b"more")
        return result

    monkeypatch.setattr(saves_module, "_sorted", and_writes)
    with pytest.raises(CheckpointChanged, match="wrote into its checkpoint of step 20 after it had renamed it: a"):
        tree.save(20, {"a": b"1"})
    assert [each.step for each in CheckpointStore(tree.tree).valid_checkpoints()] == [10]


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize(
    ("link", "to", "said"),
    [
        ("last", "10/weights", "a link to what is not there: 'last'"),  # taken away when it was committed
        ("last", "20.tmp/weights", "a link to what is not there: 'last'"),  # the name that it was written under
        ("in/side", "20.tmp", "a link to what is not there: 'in/side'"),
        ("in/side", "kept", "a link to a folder: 'in/side'"),
    ],
)
def test_a_link_that_a_checkpoint_cannot_hold_is_called_that_and_no_change(
    link: str, to: str, said: str, tmp_path: Path
) -> None:
    tree = Tree(tmp_path)
    tree.save(10, {"weights": b"1"})
    (tree.saves.folder / "kept").mkdir()
    (folder := tree.saves.folder / "20.tmp" / link).parent.mkdir(parents=True)
    folder.symlink_to(tree.saves.folder / to)
    with pytest.raises(ContractBroken, match=rf"The checkpoint of step 20 has {said} -> ") as refused:
        tree.save(20, {"weights": b"2"})
    assert type(refused.value) is ContractBroken
    assert [each.step for each in CheckpointStore(tree.tree).valid_checkpoints()] == [10]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_to_a_file_that_stays_is_that_file(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tree.saves.folder / "base.bin").write_bytes(b"frozen")
    (tree.saves.folder / "10.tmp").mkdir()
    (tree.saves.folder / "10.tmp/base.bin").symlink_to(tree.saves.folder / "base.bin")
    (tree.saves.folder / "10.tmp/last.bin").symlink_to("weights")
    unpack(tree.save(10, {"weights": b"1"}), tmp_path / "back")
    assert read(tmp_path / "back") == {"base.bin": b"frozen", "last.bin": b"1", "weights": b"1"}


def test_a_file_that_may_not_be_read_is_no_change_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    tree, folder = Tree(tmp_path), tmp_path / "scratch/saves/10"
    folder.mkdir()
    os.close(os.open(folder / "secret", os.O_CREAT))
    (save,) = tree.saves.take()
    with pytest.raises(StorageError, match="step 10 cannot be read: secret: Permission denied"):
        saves_module.contents_of(save, "toy", {})


@pytest.mark.skipif(os.name == "nt", reason="rights, and pipes")
def test_what_of_a_checkpoint_does_not_come_back_is_said_once(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for step in (10, 20):
        folder = tree.saves.folder / f"{step}.tmp"
        (folder / "logs/empty").mkdir(parents=True)
        (folder / "run.sh").touch(mode=0o755)
        os.mkfifo(folder / "pipe")
        tree.save(step, {"weights": b"1"})
    left_out = "logs/empty (an empty folder), pipe (no file), run.sh (that it can be executed)"
    assert tree.told == [f"a checkpoint is kept as files and their bytes; not kept of step 10: {left_out}"]


def test_the_best_is_by_its_metric_or_as_the_script_says(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "by metric")
    tree.commits.best = Best(metric="loss")
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0)):
        tree.save(step, {"a": b"%d" % step, "BEST": b""}, Metric(step, "loss", loss))
    best = tree.commits.store.best()
    assert best is not None
    assert (best.step, best.manifest.metrics["value"], best.read("a")) == (20, 1.0, b"20")
    marked = Tree(tmp_path / "marked")
    for step, files in ((10, {"BEST": b""}), (20, {"BEST": b""}), (30, {"a": b""})):
        marked.save(step, files)
    best = marked.commits.store.best()
    assert best is not None
    assert best.step == 20


def test_room_is_counted_before_a_save_and_one_is_kept_where_two_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROOM_BESIDE", 0)
    tree = Tree(tmp_path)
    tree.commits.kept_bytes = 3_500
    for step in (10, 20, 30):
        tree.save(step, {"a": os.urandom(1_200), "BEST": b""})
    assert any("will hold up to 0.0 of the 0 GB" in text for text in tree.told)
    assert any("no room for two latest checkpoints" in text for text in tree.told)
    assert [each.step for each in CheckpointStore(tree.tree).valid_checkpoints()] == [30]
    with pytest.raises(StorageError, match=r"does not fit: .*\nSafe: the checkpoint of step 30"):
        tree.save(40, {"a": os.urandom(3_000)})
    assert [each.step for each in CheckpointStore(tree.tree).valid_checkpoints()] == [30]
    tree.commits.kept_bytes = None
    tree.save(40, {"a": os.urandom(3_000)})
    steps = [each.step for each in CheckpointStore(tree.tree).valid_checkpoints()]
    assert steps == [40, 30], "where everything is kept, the disk alone has a say"
