"""One command at a time in one tree; who is refused learns by whom, and a disk without locks is called that."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kaggle_manager.checkpoints import tree_lock
from kaggle_manager.checkpoints.tree_lock import at_work_on, hold_tree, lock_of
from kaggle_manager.errors import Busy, StorageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


def refusal_of(tree: Path) -> Busy:
    with pytest.raises(Busy) as raised, hold_tree(tree):
        pass
    return raised.value


def test_two_trees_of_one_folder_are_held_at_once_and_each_only_once(tree: Path) -> None:
    with hold_tree(tree), hold_tree(tree.with_name("models_seed_3")):
        assert refusal_of(tree).exit_code == 10
    with hold_tree(tree):
        pass


def test_the_refused_learn_who_since_when_and_where(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/kaggle-manager", "restore", "a b", "--from", "s3://key:secret@x/y"])
    with hold_tree(tree):
        says = refusal_of(tree).message
        since = json.loads(lock_of(tree).read_bytes())["since"]
    for part in (
        f"process {os.getpid()} of user",
        f"since {since}",
        "kaggle-manager restore 'a b'",
        str(lock_of(tree)),
    ):
        assert part in says
    assert "secret" not in says


def test_whoever_only_looks_takes_nothing_and_is_not_told_of_itself(tree: Path) -> None:
    assert not at_work_on(tree)
    assert not lock_of(tree).exists()
    with hold_tree(tree):
        assert not at_work_on(tree)
    lock_of(tree).write_text(
        json.dumps(dict.fromkeys(("pid", "command", "user", "since"), "7") | {"host": "elsewhere"})
    )
    assert "on elsewhere, since 7" in at_work_on(tree), "whether it still runs there cannot be asked from here"


def test_what_is_written_in_the_lock_file_decides_nothing(tree: Path) -> None:
    lock_of(tree).parent.mkdir()
    for text in (b"", b"not json", b"[1]", b'{"pid": 1}', b'{"pid": "\\u001b]0;x\\u0007", "user": 1}', b"\xff"):
        lock_of(tree).write_bytes(text)
        with hold_tree(tree):
            lock_of(tree).write_bytes(text)
            assert "\x1b" not in refusal_of(tree).message


def test_a_tree_is_one_tree_by_every_path_to_it(tree: Path) -> None:
    tree.mkdir(parents=True)
    link = tree.with_name("link")
    link.symlink_to(tree)
    with hold_tree(link):
        refusal_of(tree)
    (tree.parent / "gone").symlink_to("/a disk/that is not there/models")
    with hold_tree(tree.parent / "gone"):
        assert not Path("/a disk").exists()


@pytest.mark.skipif(os.name == "nt", reason="flock")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_called_that_and_not_busy(
    tree: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match="has no file locks") as raised, hold_tree(tree):
        pass
    assert not raised.value.retryable
    assert "--workdir" in raised.value.next_step


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_another_fault_of_the_disk_stays_what_it_is(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), hold_tree(tree):
        pass


def test_a_user_without_a_name_holds_a_tree_as_well(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr(tree_lock.getpass, "getuser", refuse)
    with hold_tree(tree):
        assert "of user" in refusal_of(tree).message


HOLDER = """
import multiprocessing, os, sys, time
from pathlib import Path
from kaggle_manager.checkpoints.tree_lock import hold_tree

def wait():
    print(os.getpid(), flush=True)  # from here on it has let go
    time.sleep(600)

with hold_tree(Path(sys.argv[1])):
    multiprocessing.get_context("fork").Process(target=wait).start()
    time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_process_that_the_holder_forked_does_not_hold_on_when_the_holder_is_killed(tree: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tree)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        helper = int(holder.stdout.readline())
        try:
            with pytest.raises(Busy), hold_tree(tree):
                pass
            assert f"process {holder.pid} of user" in at_work_on(tree), "whoever only looks learns it as well"
            holder.kill()
            holder.wait()
            os.kill(helper, 0)  # it lives on
            assert str(holder.pid) in lock_of(tree).read_text()
            assert not at_work_on(tree), "what a dead process wrote is no work"
            with hold_tree(tree):
                pass
        finally:
            os.kill(helper, signal.SIGKILL)
