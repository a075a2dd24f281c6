"""One program at a time in one training tree, and who it is.

Two trainers in one tree would overwrite each other's replay rows and rotate each other's checkpoints away. The lock
lies beside the tree, so it outlives a tree that is swapped, and the operating system drops it when its holder dies:
a process that the holder forked does not hold on to it.
What is written in it is for the message of the command that is refused; nothing is decided by it.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.errors import Busy, one_line
from kaggle_manager.system.file_lock import take

_held: set[BinaryIO] = set()
_IN_WORDS = "process {pid} of user {user} on {host}, since {since}: {command}."


@contextmanager
def hold_tree(tree: Path) -> Iterator[None]:
    """Hold the training tree at `tree` for this process.

    Raises:
        Busy: another program works in it.
        StorageError: its file system has no locks.
        OSError: the folder refuses a lock file.
    """
    with hold_file(lock_of(tree), f"Another command is at work on {tree}"):
        yield


def lock_of(tree: Path) -> Path:
    """The file by which a training tree is held; the same by every path to the folder, be it a link."""
    real = Path(os.path.realpath(tree))
    place = real if real.parent.is_dir() else tree  # a disk that is not mounted gets no folder in its place
    return place.with_name(f".{place.name}.lock")


def at_work_on(tree: Path) -> str:
    """Which other process works on a tree now, in words, by what it wrote into its lock; "" for none that is known.

    The lock is not tried: that would refuse it, for a moment, to a command that starts.
    """
    says = _written(lock_of(tree))
    if not says or (
        says["host"] == socket.gethostname() and (says["pid"] == str(os.getpid()) or _has_ended(says["pid"]))
    ):
        return ""
    return _IN_WORDS.format_map(says).removesuffix(".")


@contextmanager
def hold_file(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock file, made with its folder when missing. Raises as `hold_tree`; `taken` begins the message."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        if not take(handle.fileno(), path):
            raise Busy(
                f"{taken}: {_holder(path)} Its lock file is {path}.",
                safe="nothing was started, and nothing of it was touched",
                next_step="wait until it has ended, or end it, and run the same command again",
            )
        with contextlib.suppress(OSError):  # a full disk: a message will know less
            handle.truncate(0)
            handle.write(json.dumps(_this_process()).encode())
            handle.flush()
        _held.add(handle)
        try:
            yield
        finally:
            _held.discard(handle)
            with contextlib.suppress(OSError, ValueError):  # closed, in a forked process that comes this way
                handle.truncate(0)


def _let_go() -> None:
    """In a forked process: close what it inherited, which leaves the lock to its holder alone."""
    for handle in _held:
        handle.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _this_process() -> dict[str, object]:
    """Who holds the lock: its command without what may hold a password, such as the address of a store."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [Path(sys.executable).name]
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in a container
        user = str(getattr(os, "getuid", lambda: "?")())
    return {
        "pid": os.getpid(),
        "command": shlex.join("..." if "://" in word else word for word in words)[:300],
        "user": user,
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _holder(path: Path) -> str:
    """In words, what the holder of the lock has written into it."""
    says = _written(path)
    return _IN_WORDS.format_map(says) if says else "it does not say who it is."


def _written(path: Path) -> dict[str, str]:
    """What the holder of a lock wrote; {} when it has only just taken it, or let it go, or another version did."""
    try:
        says = json.loads(path.read_bytes())
        return {name: one_line(str(says[name])) for name in ("pid", "command", "user", "host", "since")}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _has_ended(pid: str) -> bool:
    """Whether there is no such process on this machine; where that cannot be asked, it counts as ended."""
    if os.name == "nt" or not pid.isdecimal():  # there a signal to a process ends it, whatever its number
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's
        return False
    return False
