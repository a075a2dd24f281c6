"""The output folder of a session: what of it the training needs, and what the user's code left there besides.

Promises: what is needed is what verified manifests of this run name, whatever a file is called; whatever else lies in
the folder - growing, vanishing, a link, a pipe, a name that is no text - is counted and named and raises nothing; a
platform that lists only some of the files always lists the trainer's. Never deletes a file that the archive has not.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import tarfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints import Disk, TrainingTree, atomic_slot, index, replay_files
from kaggle_manager.checkpoints.atomic_slot import Slot
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.protocol.events import Event, ProgressEvent
from kaggle_manager.protocol.file_names import OTHERS_ARCHIVE, START_FILE, TREE_FOLDER
from kaggle_manager.protocol.session_result import OutputEntry
from kaggle_manager.system.files import regular, sha256_of
from kaggle_manager.trainer.runtime.log_lines import Emit

# So many of the files that a platform lists are left, for something else may come into the folder.
LEFT_SHARE = 0.9
# Shares of what it keeps: of which the user is told, and at which a session that others fill is ended while it can be
# saved.
TOLD_AT, STOPPED_AT = (0.5, 0.8), 0.9
LOOK_EVERY_S = 60.0
LARGEST_ODD_BYTES = 10_000_000
# A look at a folder of very many files may take this share of the time.
_LOOK_SHARE = 0.01


@dataclass(frozen=True)
class Other:
    """A file that is not the trainer's: its name in the folder as the system has it, and its bytes."""

    name: str
    size: int


def committed(working: Path, run_id: str) -> list[OutputEntry]:
    """The files of every checkpoint, best model and final model that verifies.

    A checkpoint of another run, which only the user's code can have put there, is none of them.
    """
    tree, disk = TrainingTree(working / TREE_FOLDER, "any"), Disk()
    found: dict[Path, str | None] = {}
    for where in _slots(tree):
        try:
            content = atomic_slot.read(where, disk)
            is_foreign = content is not None and content.manifest.lineage.run_id != run_id
            if content is None or (where.folder == tree.checkpoints and is_foreign):
                continue
            replay_files.verify(tree.replay, content.manifest.segments, disk)
            found.setdefault(content.manifest_path, None)
            found |= {content.paths[entry.name]: entry.sha256 for entry in content.manifest.files}
            for ref in content.manifest.segments:
                path = tree.replay / ref.name  # it may hold rows behind those that are committed
                found[path] = ref.sha256 if path.stat().st_size == ref.length else None
        except (KaggleManagerError, OSError):
            continue  # it cannot be continued from, so nothing needs it
    return [_entry(working, path, sha256) for path, sha256 in sorted(found.items())]


def own_but_not_needed(working: Path) -> list[OutputEntry]:
    """What the trainer wrote that no manifest names: learning curves, the summary, the session's first file."""
    tree = TrainingTree(working / TREE_FOLDER, "any")
    events = sorted((tree.history / "tensorboard").glob("events.*"))[:1]
    names = ("monitor.csv", "evaluations.npz", "metrics.jsonl")
    curves = [*(tree.history / name for name in names), *events]
    found = []
    for path in (working / START_FILE, tree.metadata, *curves):
        try:
            if stat.S_ISREG(path.lstat().st_mode):
                found.append(_entry(working, path, None))
        except OSError:
            continue
    return found


def others(working: Path, own: Collection[str]) -> list[Other]:
    """Everything in the folder but folders and the files named in `own`, by name."""
    found = []
    for path in _entries(working):
        name = path.relative_to(working).as_posix()
        try:
            if name not in own:
                facts = path.lstat()
                found.append(Other(name, facts.st_size if stat.S_ISREG(facts.st_mode) else 0))
        except OSError:
            continue  # it vanished
    return sorted(found, key=lambda other: other.name)


def left_of(listed_files: int | None) -> float:
    """How many files may be in the folder at the end; infinite where all are listed."""
    return math.inf if listed_files is None else LEFT_SHARE * listed_files


def make_room(working: Path, found: Collection[Other], most: float) -> int:
    """Move other files into one archive, the smallest first, until no more than `most` files are left; how many.

    One whose name cannot be shown goes there anyhow, unless that takes long: nobody knows what a platform's list makes
    of it.
    """
    odd = {other for other in found if not other.name.isprintable() and other.size <= LARGEST_ODD_BYTES}
    by_size = sorted((other for other in found if other not in odd), key=lambda other: other.size)
    surplus = len(found) + 1 - most if len(found) > most else 0.0
    if not odd and not surplus:
        return 0
    archive, packed = _numbered(working / OTHERS_ARCHIVE), 0
    # Unbuffered: what is moved is in the archive before it leaves its place, should this process be killed next.
    with archive.open("xb", buffering=0) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for other in (*odd, *by_size):
            if packed >= surplus and other not in odd:
                break
            packed += _moved(working / other.name, other.name, tar, stream)
    return packed


class OutputWatch:
    """Looks at the folder while the session runs, so that what a platform will not keep is known in time.

    Args:
        working: the output folder.
        kept_bytes, listed_files: what the platform keeps and lists of it; None for all.
        request_stop: ends the session in good order, with a reason.
        warn: told what the user should know.
        now: monotonic clock, seconds.
    """

    def __init__(
        self,
        working: Path,
        kept_bytes: int | None,
        listed_files: int | None,
        request_stop: Callable[[str], None],
        warn: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._working, self._kept_bytes, self._listed_files = working, kept_bytes, listed_files
        self._request_stop, self._warn, self._now = request_stop, warn, now
        self._next_look = now()
        self._told: set[float] = set()

    def after(self, emit: Emit) -> Emit:
        """`emit`, with a look at the folder after an event of progress when it is time for one."""
        is_bounded = (self._kept_bytes, self._listed_files) != (None, None)

        def emit_and_look(event: Event) -> None:
            emit(event)
            if is_bounded and isinstance(event, ProgressEvent) and self._now() >= self._next_look:
                self.look()

        return emit_and_look

    def look(self) -> None:
        """Count the folder's files and bytes, and say or do what they call for."""
        begun = self._now()
        sizes = {False: [0, 0], True: [0, 0]}  # files and bytes, by whether they are in the training tree
        for path in _entries(self._working):
            try:
                facts = path.lstat()
            except OSError:
                continue
            of = sizes[path.is_relative_to(self._working / TREE_FOLDER)]
            of[0] += 1
            of[1] += facts.st_size
        ended = self._now()
        self._next_look = ended + max(LOOK_EVERY_S, (ended - begun) / _LOOK_SHARE)
        self._judge(files=sizes[False][0], size=sizes[False][1], tree_size=sizes[True][1])

    def _judge(self, *, files: int, size: int, tree_size: int) -> None:
        besides = f"{files:,} files besides the training tree, {size / 1e9:.2f} GB"
        if files > left_of(self._listed_files) and 0.0 not in self._told:
            self._told.add(0.0)
            self._warn(
                f"the output folder holds {besides}; the platform may list only {self._listed_files} of them, so the "
                f"smallest are moved into {OTHERS_ARCHIVE} when the session ends"
            )
        kept = math.inf if self._kept_bytes is None else self._kept_bytes
        share = (size + tree_size) / kept
        of_all = f"{(size + tree_size) / 1e9:.1f} of the {kept / 1e9:.0f} GB"
        holds = f"the output folder holds {of_all} that a session may leave"
        reached = [at for at in TOLD_AT if share >= at]
        if set(reached) - self._told:
            self._told |= set(reached)
            self._warn(f"{holds}: {besides}")
        if share >= STOPPED_AT and size > tree_size:
            self._request_stop(f"{holds}, most of it not the training's own: {besides}")


def _slots(tree: TrainingTree) -> Iterator[Slot]:
    yield from index.latest_slots(tree)
    yield index.best_slot(tree)
    yield from (Slot(tree.root, name) for name in index.manifest_names(tree.root, "*_final"))


def _entry(working: Path, path: Path, sha256: str | None) -> OutputEntry:
    name = path.relative_to(working).as_posix()
    return OutputEntry(name=name, size=path.stat().st_size, sha256=sha256 or sha256_of(path))


def _entries(working: Path) -> Iterator[Path]:
    """Everything in the folder that is no folder itself; links are not followed."""
    for parent, folders, names in os.walk(working):
        links = (name for name in folders if (Path(parent) / name).is_symlink())
        yield from (Path(parent) / name for name in (*names, *links))


def _numbered(path: Path) -> Path:
    """`path`, or the first name like it, numbered before its suffix, under which nothing lies."""
    free, number = path, 0
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return free


def _moved(path: Path, name: str, tar: tarfile.TarFile, archive: BinaryIO) -> bool:
    """Move one file into an archive; False when it cannot be read, and then neither has changed."""
    begun = tar.offset
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):  # no archive holds one
            return False
        member = tar.gettarinfo(path, name)
        if member.isreg():
            with open(path, "rb", opener=regular) as stream:
                tar.addfile(member, stream)
        else:
            tar.addfile(member)
        if archive.tell() != tar.offset:  # a disk that is nearly full takes a part of a write without an error
            raise OSError(errno.ENOSPC, "the archive took only a part of it", str(path))
        path.unlink()
    except OSError:
        archive.seek(begun)
        archive.truncate()
        tar.offset = begun
        return False
    return True
