"""Disks that die, fail, or remember: the only way the crash tests reach into the store is its `Disk`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk


class Died(BaseException):
    """The process is gone: nothing in the code under test may catch this."""


class WatchedDisk(Disk):
    """A disk that hands every call to `call(name, perform, *arguments)`."""

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        return perform(*arguments)

    def read(self, path: Path) -> bytes:
        data: bytes = self.call("read", super().read, path)
        return data

    def sha256(self, path: Path, length: int) -> Any:
        return self.call("sha256", super().sha256, path, length)

    def make_folder(self, path: Path) -> None:
        if not path.is_dir():
            self.call("make_folder", super().make_folder, path)

    def write(self, path: Path, data: bytes) -> None:
        self.call("write", super().write, path, data)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        self.call("write_at", super().write_at, path, offset, data)

    def sync(self, path: Path) -> None:
        self.call("sync", super().sync, path)

    def sync_folder(self, path: Path) -> None:
        self.call("sync_folder", super().sync_folder, path)

    def replace(self, source: Path, destination: Path) -> None:
        self.call("replace", super().replace, source, destination)

    def link(self, source: Path, destination: Path) -> None:
        self.call("link", super().link, source, destination)

    def unlink(self, path: Path) -> None:
        self.call("unlink", super().unlink, path)

    def remove_folder(self, path: Path) -> None:
        self.call("remove_folder", super().remove_folder, path)


@dataclass
class DyingDisk(WatchedDisk):
    """Dies instead of its n-th call, counted from 0; a write leaves half of its bytes."""

    dies_at: int
    calls: int = 0

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        if self.calls == self.dies_at:
            if name in ("write", "write_at"):
                *where, data = arguments
                perform(*where, data[: len(data) // 2])
            raise Died
        self.calls += 1
        return perform(*arguments)


@dataclass
class FailingDisk(WatchedDisk):
    """Raises the error `number` at its n-th call, counted from 0, and at every later one when `persistent`."""

    fails_at: int
    number: int
    persistent: bool = False
    calls: int = 0

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        self.calls += 1
        turn = self.calls - 1 - self.fails_at
        if turn == 0 or (turn > 0 and self.persistent):
            if name in ("write", "write_at"):  # a full disk takes what fits
                *where, data = arguments
                perform(*where, data[: len(data) // 2])
            raise OSError(self.number, os.strerror(self.number), str(arguments[0]))
        return perform(*arguments)


@dataclass(frozen=True)
class Call:
    """One call as it was made, paths relative to the tree; or, with the name `ack`, a promise given to the user."""

    name: str
    path: str = ""
    destination: str = ""
    offset: int = 0
    data: bytes = b""
    ack: Any = None


class RecordingDisk(WatchedDisk):
    """Does everything and remembers it in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[Call] = []

    def call(self, name: str, perform: Callable[..., Any], *arguments: Any) -> Any:
        path = self._relative(arguments[0])
        match name:
            case "write":
                self.calls.append(Call(name, path, data=arguments[1]))
            case "write_at":
                self.calls.append(Call(name, path, offset=arguments[1], data=arguments[2]))
            case "replace" | "link":
                self.calls.append(Call(name, path, self._relative(arguments[1])))
            case "sync" | "sync_folder" | "unlink":
                self.calls.append(Call(name, path))
        return perform(*arguments)

    def acknowledge(self, promise: Any) -> None:
        self.calls.append(Call("ack", ack=promise))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
