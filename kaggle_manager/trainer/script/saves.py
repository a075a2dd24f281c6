"""The folder a script saves into: what of it is committed, and how a checkpoint becomes files of a training tree.

    SAVES/300.tmp/...   being written       SAVES/300/...   committed by the rename       SAVES/metrics.jsonl

Promises: a folder is taken out of the script's hands before it is read, so that nothing the script does later reaches a
checkpoint; of a file only a block is in memory. A file of a safe name is a file of the checkpoint; what is left - odd
names, and the small files of a folder that has very many - is in one archive, for a platform lists few files. What is
refused and what is left out is decided here, for a session and for the preflight alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.checkpoints.contents import BLOCK, Content, Shared, Streamed
from kaggle_manager.checkpoints.layout import ROLES, file_name
from kaggle_manager.errors import CheckpointChanged, ContractBroken, KaggleManagerError, StorageError, UnsafePath

PACK = "packed.tar"
MOST_FILES = 50
"""Of a checkpoint, beside the archive: two latest, best and final are within the files that a platform lists."""
BEST = "BEST"
_STEP = re.compile(r"\d{1,15}")
_SAFE = "the checkpoints that were committed before it"


@dataclass(frozen=True)
class Save:
    """A checkpoint that a script has committed, in a folder of ours."""

    step: int
    folder: Path

    @property
    def is_best(self) -> bool:
        """Whether the script calls it the best so far."""
        return (self.folder / BEST).is_file()


class Saves:
    """One script's folder.

    Attributes:
        folder: what the script is given.
    """

    def __init__(self, scratch: Path) -> None:
        self.folder, self._taken = scratch / "saves", scratch / "taken"
        self.folder.mkdir(parents=True)
        self._taken.mkdir()
        self._count = 0

    def take(self) -> list[Save]:
        """The checkpoints that were committed since the last call, by their steps.

        Raises:
            ContractBroken: one of them cannot be taken out of the folder; others that can be are returned first.
        """
        found, refused = [], None
        for path in self._folders():
            self._count += 1
            taken = self._taken / f"{self._count}"
            try:
                path.rename(taken)
            except FileNotFoundError:  # it vanished
                continue
            except OSError as error:
                refused = path, error
                continue
            found.append(Save(int(path.name), taken))
        if refused and not found:
            raise ContractBroken(
                f"The script's checkpoint of step {int(refused[0].name):,} cannot be taken out of its saves folder: "
                f"{refused[1].strerror}.",
                safe="the checkpoints that were committed before it",
                next_step="write <step>.tmp as a folder of KM_SESSION_SAVES, with no other disk in its place",
            ) from refused[1]
        return sorted(found, key=lambda save: save.step)

    def _folders(self) -> list[Path]:
        try:
            entries = [*os.scandir(self.folder)]
        except OSError:  # the script has removed it: then nothing was saved
            return []
        return [
            Path(entry.path) for entry in entries if _STEP.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]

    def left(self) -> list[str]:
        """What lies there and is no committed checkpoint: half-written ones, with what they take."""
        try:
            names = sorted(os.listdir(self.folder))  # noqa: PTH208 - names alone are wanted
        except OSError:
            return []
        sizes = ((name, bytes_at(self.folder / name)) for name in names if name != "metrics.jsonl")
        return [f"{name} ({size:,} bytes)" for name, size in sizes]

    def forget(self, save: Save) -> None:
        """Free the room of a save that is in the tree, or that nobody wants."""
        shutil.rmtree(save.folder, ignore_errors=True)


def unused(left: list[str]) -> str:
    """What is said of what lies there when the script has ended."""
    named = ", ".join(left[:10])
    return f"left in the script's saves folder and not used, for it is no folder named <step>: {named}."


def bytes_at(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(found.lstat().st_size for found in path.rglob("*") if found.is_file() or found.is_symlink())


@dataclass(frozen=True)
class _Found:
    """A file of a save: its name relative to the folder, where it is, and what its time and size tell of changes."""

    name: str
    path: Path
    size: int
    changed: int


def contents_of(save: Save, scenario: str, known: Mapping[tuple[int, str], Shared]) -> dict[str, Content]:
    """What the checkpoint is to hold, by role.

    Args:
        scenario: whose tree it goes to.
        known: files that the tree has already, by size and SHA-256: what has not changed is not written again.

    Raises:
        CheckpointChanged: a file changed, or went, while it was read.
        ContractBroken, StorageError: what is in it cannot be kept, see `_inside`.
    """
    own, packed = _sorted(save, scenario)
    found: dict[str, Content] = {}
    with _reading(save):
        for each in own:
            streamed = Streamed(_copier(each))
            found[each.name] = known.get((streamed.size, streamed.sha256), streamed)
        if packed:
            found[PACK] = Streamed(_packer(packed))
    if (now := {each.name: (each.size, each.changed) for each in _files(save)}) != {
        each.name: (each.size, each.changed) for each in (*own, *packed)
    }:
        before = {each.name: (each.size, each.changed) for each in (*own, *packed)}
        raise changed(save.step, ", ".join(sorted(name for name, _ in set(now.items()) ^ set(before.items()))[:5]))
    return found


def changed(step: int, what: str) -> CheckpointChanged:
    """The error of a checkpoint that is not what it was when it was committed."""
    return CheckpointChanged(
        f"The script wrote into its checkpoint of step {step:,} after it had renamed it: {what}.",
        safe=_SAFE,
        next_step="write everything into <step>.tmp, close the files, and rename that folder last",
    )


def unpack(checkpoint: Checkpoint, folder: Path) -> None:
    """Put a script's files into `folder`, each byte verified, as a copy: what the script does to it stays there.

    Raises:
        CheckpointCorrupt: a file is not what was committed.
        OSError: from the disk.
    """
    folder.mkdir(parents=True)
    for file in checkpoint.manifest.files:
        if file.role in ROLES:
            continue
        if file.role == PACK:
            with tarfile.open(checkpoint.path(PACK)) as tar:
                tar.extractall(folder, filter="data")
            continue
        path = folder / file.role
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint.path(file.role), path)


def names_in(checkpoint: Checkpoint) -> set[str]:
    """The names of a script's files in a checkpoint, relative to its folder."""
    names = {file.role for file in checkpoint.manifest.files if file.role not in ROLES and file.role != PACK}
    if checkpoint.manifest.file(PACK):
        with tarfile.open(checkpoint.path(PACK)) as tar:
            names |= {member.name for member in tar}
    return names


def names_of(save: Save) -> set[str]:
    """The names of the files in a save, relative to its folder."""
    return {each.name for each in _files(save)}


def not_kept(save: Save) -> list[str]:
    """What is in a save and does not come back, by name: a checkpoint is files and their bytes."""
    return _inside(save)[1]


def digests(save: Save) -> dict[str, str]:
    """SHA-256 of each file of a save, by its name.

    Raises:
        CheckpointChanged, ContractBroken, StorageError: as `contents_of`.
    """
    found = {}
    with _reading(save):
        for each in _files(save):
            with each.path.open("rb") as file:
                found[each.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _files(save: Save) -> list[_Found]:
    return _inside(save)[0]


def _inside(save: Save) -> tuple[list[_Found], list[str]]:
    """The files of a save, a link to one being a file; and what of it is not kept.

    Raises:
        ContractBroken: a link to a folder is in it, or to what is not there.
        CheckpointChanged: a file went meanwhile.
        StorageError: a file may not be read.
    """
    found, left_out = [], []
    with _reading(save):
        for parent, folders, names in os.walk(save.folder, onerror=_raise):
            for name in folders:
                if Path(parent, name).is_symlink():
                    raise _broken_link(save, Path(parent, name), "a folder")
            if not folders and not names and Path(parent) != save.folder:
                left_out.append(f"{_name(save, parent)} (an empty folder)")
            for name in names:
                path = Path(parent, name)
                facts = path.stat()
                relative = _name(save, path)
                if not stat.S_ISREG(facts.st_mode):
                    left_out.append(f"{relative} (no file)")
                    continue
                if facts.st_mode & stat.S_IXUSR:
                    left_out.append(f"{relative} (that it can be executed)")
                found.append(_Found(relative, path, facts.st_size, facts.st_mtime_ns))
    return sorted(found, key=lambda each: each.name), sorted(left_out)


@contextmanager
def _reading(save: Save) -> Iterator[None]:
    """Around what reads a save: an error of the disk is called what it is."""
    try:
        yield
    except (OSError, tarfile.TarError) as error:
        raise _as_told(save, error) from error


def _as_told(save: Save, error: OSError | tarfile.TarError) -> KaggleManagerError:
    path = getattr(error, "filename", None)
    if path is None:  # the archive has found a file shorter than it was
        return changed(save.step, str(error))
    if Path(path).is_symlink():
        return _broken_link(save, Path(path), "what is not there")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return changed(save.step, f"{_name(save, path)} is gone")
    why = getattr(error, "strerror", error)
    return StorageError(
        f"The checkpoint of step {save.step:,} cannot be read: {_name(save, path)}: {why}.",
        safe=_SAFE,
        next_step="save files that their owner may read",
    )


def _broken_link(save: Save, link: Path, to: str) -> ContractBroken:
    leads = str(link.readlink())[:120]
    return ContractBroken(
        f"The checkpoint of step {save.step:,} has a link to {to}: {_name(save, link)!r} -> {leads!r}.",
        safe=_SAFE,
        next_step="save files, and no links to folders or into the saves folder: a checkpoint is taken out of it",
    )


def _name(save: Save, path: str | Path) -> str:
    return Path(path).relative_to(save.folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _sorted(save: Save, scenario: str) -> tuple[list[_Found], list[_Found]]:
    """The files that have names of their own in the tree, the largest ones; and those for the archive."""
    files = _files(save)
    spelled = Counter(each.name.casefold() for each in files)
    plain = [each for each in files if _is_plain(each.name, scenario) and spelled[each.name.casefold()] == 1]
    own = sorted(plain, key=lambda each: -each.size)[:MOST_FILES]
    named = {each.name for each in own}
    return sorted(own, key=lambda each: each.name), [each for each in files if each.name not in named]


def _is_plain(name: str, scenario: str) -> bool:
    if name == PACK or name in ROLES:
        return False
    try:
        file_name("latest", scenario, 10**15, name)
    except UnsafePath:
        return False
    return True


def _copier(file: _Found):  # type: ignore[no-untyped-def]
    def copy(stream: BinaryIO) -> None:
        with file.path.open("rb") as source:
            shutil.copyfileobj(source, stream, BLOCK)

    return copy


def _packer(files: list[_Found]):  # type: ignore[no-untyped-def]
    def pack(stream: BinaryIO) -> None:
        with tarfile.open(fileobj=stream, mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT) as tar:
            for file in files:
                # Nothing of the machine or the time: the same files are the same bytes.
                info = tarfile.TarInfo(file.name)
                info.size, info.mode = file.size, 0o644
                with file.path.open("rb") as source:
                    tar.addfile(info, source)

    return pack


def shared_of(*checkpoints: Checkpoint | None) -> Iterator[tuple[tuple[int, str], Shared]]:
    """The files of checkpoints that need no room again, by size and SHA-256."""
    for checkpoint in checkpoints:
        for file in checkpoint.manifest.files if checkpoint else ():
            if file.role not in ROLES:
                assert checkpoint is not None
                yield (file.size, file.sha256), checkpoint.shared(file.role)
