"""What a disk may hold after the power failed: every such state of a recorded run, enumerated.

The model is pessimistic, after Pillai and others, "All file systems are not created equal" (OSDI 2014):

* bytes written and not synced are, file by file, absent, half there, zeros, or all there: each combination of two
  files, beyond that each file by itself;
* names created, renamed or deleted in a folder that was not synced since took effect or not: each subset of the pending
  changes while there are few, beyond that each prefix, each single one, and all but each single one;
* what was synced stays. Making a folder waits for its name, so folders are always there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from crash_disks import Call

FEW = 4


@dataclass
class _Inode:
    """A file's bytes: those on the medium, and those the running system would read."""

    durable: bytes = b""
    written: bytes = b""

    def possible(self) -> list[bytes]:
        if self.durable == self.written:
            return [self.durable]
        half = self.written[: len(self.written) // 2]
        zeros = self.durable[: len(self.written)].ljust(len(self.written), b"\0")
        return list(dict.fromkeys([self.durable, half, zeros, self.written]))


@dataclass
class _Change:
    """One pending change of names: `gone` loses its name, `named` gets one for `inode`."""

    inode: _Inode
    gone: str | None = None
    named: str | None = None


@dataclass
class Machine:
    """Replays recorded calls; `states` are the disks a power failure could leave at this instant."""

    names: dict[str, _Inode] = field(default_factory=dict)
    durable_names: dict[str, _Inode] = field(default_factory=dict)
    pending: dict[str, list[_Change]] = field(default_factory=dict)

    def do(self, call: Call) -> None:
        match call.name:
            case "write" | "write_at":
                inode = self.names.get(call.path)
                if inode is None:
                    inode = self.names[call.path] = _Inode()
                    self._change(call.path, _Change(inode, named=call.path))
                inode.written = inode.written[: call.offset] + call.data
            case "sync":
                inode = self.names[call.path]
                inode.durable = inode.written
            case "replace":
                inode = self.names.pop(call.path)
                self.names[call.destination] = inode
                self._change(call.destination, _Change(inode, gone=call.path, named=call.destination))
            case "link":
                inode = self.names[call.destination] = self.names[call.path]
                self._change(call.destination, _Change(inode, named=call.destination))
            case "unlink":
                found = self.names.pop(call.path, None)
                if found is not None:
                    self._change(call.path, _Change(found, gone=call.path))
            case "sync_folder":
                for change in self.pending.pop(call.path, []):
                    _apply(change, self.durable_names)

    def states(self) -> Iterator[dict[str, bytes]]:
        choices = [list(_subsets(changes)) for changes in self.pending.values()]
        for chosen in itertools.product(*choices):
            names = dict(self.durable_names)
            for change in itertools.chain.from_iterable(chosen):
                _apply(change, names)
            for combination in _combinations([inode.possible() for inode in names.values()]):
                yield dict(zip(names, combination, strict=True))

    def _change(self, path: str, change: _Change) -> None:
        self.pending.setdefault(_folder(path), []).append(change)


def _apply(change: _Change, names: dict[str, _Inode]) -> None:
    if change.gone is not None and names.get(change.gone) is change.inode:
        del names[change.gone]
    if change.named is not None:
        names[change.named] = change.inode


def _subsets(changes: list[_Change]) -> Iterator[tuple[_Change, ...]]:
    if len(changes) <= FEW:
        for size in range(len(changes) + 1):
            yield from itertools.combinations(changes, size)
        return
    yield from (tuple(changes[:size]) for size in range(len(changes) + 1))
    yield from ((change,) for change in changes[1:])
    yield from (tuple(changes[:index] + changes[index + 1 :]) for index in range(len(changes) - 1))


def _combinations(contents: list[list[bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Yield every combination while few files are unsynced, beyond that those where all files but one are whole."""
    if sum(len(possible) > 1 for possible in contents) <= FEW // 2:
        yield from itertools.product(*contents)
        return
    whole = tuple(possible[-1] for possible in contents)
    yield whole
    for index, possible in enumerate(contents):
        yield from ((*whole[:index], damaged, *whole[index + 1 :]) for damaged in possible[:-1])


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.as_posix()


def crash_states(calls: list[Call]) -> Iterator[tuple[dict[str, bytes], tuple[Any, ...]]]:
    """Yield every distinct state a power failure could leave, with the promises given before that instant."""
    machine, promised = Machine(), ()
    seen: set[Any] = set()
    for call in calls:
        if call.name == "ack":
            promised = (*promised, call.ack)
        else:
            machine.do(call)
        for state in machine.states():
            key = (frozenset(state.items()), len(promised))
            if key not in seen:
                seen.add(key)
                yield state, promised


def materialise(state: dict[str, bytes], root: Path) -> None:
    """Write a state as real files."""
    root.mkdir(parents=True)
    for name, data in state.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
