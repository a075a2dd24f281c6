"""What a user's code may do to the output folder of its session. It runs in the session: standard library only.

A spec is plain data (see `hostile_outputs`): `{"before": [...], "during": [...], "at exit": [...], "end": "well"}`,
each act a list of its kind, the name it is about (bytes as latin-1), and a number.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

HELD: list[Any] = []  # open files, never closed


def act(working: str, acts: list[list[Any]]) -> None:
    for kind, name, number in acts:
        path = os.path.join(os.fsencode(working), name.encode("latin-1"))  # noqa: PTH118 - names that are no text
        with contextlib.suppress(
            OSError, ValueError, RecursionError, shutil.Error
        ):  # a tree copied into itself has no end
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            ACTS[kind](path, number, os.fsencode(working))


def begin(working: str, spec: dict[str, Any]) -> None:
    act(working, spec["before"])
    atexit.register(act, working, spec["at exit"])


def at_step(working: str, spec: dict[str, Any], number: int, last: int) -> None:
    """After the save of the session's step `number`, of `last`."""
    is_end = number == last or spec["end"] not in ("well", "exit 0")
    # While a checkpoint that is further on lies in its tree, a trainer saves nothing and says so.
    act(working, [each for each in spec["during"] if is_end or each[0] != "foreign"])
    if spec["end"] == "exit 0" and number == last:
        os._exit(0)
    if spec["end"] == "crash":
        raise RuntimeError("the environment broke")
    if spec["end"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if spec["end"] == "all killed":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _file(path: bytes, number: int, working: bytes) -> None:
    with open(path, "ab") as stream:  # noqa: PTH123
        stream.write(b"x" * number)


def _growing(path: bytes, number: int, working: bytes) -> None:
    """An open file that a thread writes to until the process ends."""
    stream = open(path, "ab", buffering=0)  # noqa: PTH123, SIM115
    HELD.append(stream)
    _forever(lambda: stream.write(b"row\n"))


def _flickering(path: bytes, number: int, working: bytes) -> None:
    """A file that comes and goes."""

    def flicker() -> None:
        _file(path, 3, working)
        os.unlink(path)  # noqa: PTH108

    _forever(flicker)


def _forever(deed: Any) -> None:
    def run() -> None:
        while True:
            with contextlib.suppress(OSError):
                deed()
            time.sleep(0.001)

    threading.Thread(target=run, daemon=True).start()


def _many(path: bytes, number: int, working: bytes) -> None:
    os.makedirs(path, exist_ok=True)  # noqa: PTH103
    for n in range(number):
        _file(path + b"/ep_%d.csv" % n, 7, working)


def _folders(path: bytes, number: int, working: bytes) -> None:
    for n in range(number):
        os.makedirs(path + b"/%d/%d" % (n % 7, n), exist_ok=True)  # noqa: PTH103


def _deep(path: bytes, number: int, working: bytes) -> None:
    os.makedirs(path + b"/d" * number, exist_ok=True)  # noqa: PTH103
    _file(path + b"/d" * number + b"/leaf", 1, working)


def _sparse(path: bytes, number: int, working: bytes) -> None:
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.truncate(number * 1_000_000)


def _socket(path: bytes, number: int, working: bytes) -> None:
    HELD.append(server := socket.socket(socket.AF_UNIX))
    server.bind(path)


def _link(path: bytes, number: int, working: bytes) -> None:
    targets = [path, working, b"/etc/hostname", b"/nothing", working + b"/training_tree", b"../.."]
    os.symlink(targets[number % len(targets)], path)  # noqa: PTH211


def _hard_link(path: bytes, number: int, working: bytes) -> None:
    os.link(_newest(working, b".zip"), path)


def _unreadable(path: bytes, number: int, working: bytes) -> None:
    _file(path, 5, working)
    os.chmod(path, number % 2 and 0o200)  # noqa: PTH101


def _remove(path: bytes, number: int, working: bytes) -> None:
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)  # noqa: PTH108, PTH112


def _copy_of_our_tree(path: bytes, number: int, working: bytes) -> None:
    shutil.copytree(working + b"/training_tree", path, dirs_exist_ok=True)


def _replaced(path: bytes, number: int, working: bytes) -> None:
    with contextlib.suppress(OSError):
        _remove(path, number, working)
    texts = [b"{}", b"", b'{"schema": 3, "outcome": "completed", "exit_code": 0, "files": []}', b"\0" * 5_000_000]
    Path(os.fsdecode(path)).write_bytes(texts[number % len(texts)])


def _foreign(path: bytes, number: int, working: bytes) -> None:
    """A sealed checkpoint of another run, further on than ours, in the tree itself."""
    from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree

    own = Path(os.fsdecode(working), "training_tree/checkpoints")
    elsewhere = TrainingTree(Path(os.fsdecode(path)), "little_task")
    common: dict[str, Any] = {"target": 10**6, "bundle_sha256": "", "identity": {}}
    CheckpointStore(elsewhere).save_latest(
        step=900_000, files={"model": b"m", "state": b"s"}, lineage=Lineage("f" * 32, 1, None, 0), **common
    )
    for file in elsewhere.checkpoints.iterdir():
        if file.is_file():
            shutil.copy(file, own / file.name)


def _newest(working: bytes, end: bytes) -> bytes:
    folder = working + b"/training_tree/checkpoints/"
    return folder + max(name for name in os.listdir(folder) if name.endswith(end))  # noqa: PTH208


def _changed_folder(path: bytes, number: int, working: bytes) -> None:
    os.makedirs(path, exist_ok=True)  # noqa: PTH103
    os.chdir(path)
    if number % 2:
        os.rmdir(path)  # noqa: PTH106 - and the current folder is gone


ACTS: dict[str, Any] = {
    "file": _file,
    "growing": _growing,
    "flickering": _flickering,
    "many": _many,
    "folders": _folders,
    "deep": _deep,
    "sparse": _sparse,
    "pipe": lambda path, number, working: os.mkfifo(path),
    "socket": _socket,
    "link": _link,
    "hard link": _hard_link,
    "folder": lambda path, number, working: os.makedirs(path),  # noqa: PTH103
    "unreadable": _unreadable,
    "remove": _remove,
    "copy of our tree": _copy_of_our_tree,
    "replaced": _replaced,
    "foreign": _foreign,
    "changed folder": _changed_folder,
}
