"""A training tree as two flat files, for a platform that skips folders and unpacks the archives it recognises.

    training_tree.pack   an uncompressed tar, under a name that nobody unpacks by itself
    training_tree.json   the name, size and SHA-256 of every file in it, and of its head manifest

Promises: the same tree gives the same bytes, and what several of its files have in common is packed once; unpacking
trusts nothing: names, sizes, hashes and kinds of the members are those of the index or nothing is unpacked; the
destination appears whole or not at all.
Never does: follow a link, keep an owner, a mode or a time, or write more bytes than the index announces.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import atomic_swap, contents, file_list
from kaggle_manager.checkpoints.atomic_io import (
    Disk,
    ensure_free_space,
    storage_errors,
    write_atomic,
)
from kaggle_manager.checkpoints.contents import Shared, write_blocks
from kaggle_manager.checkpoints.file_entry import FileEntry, parse_entries
from kaggle_manager.checkpoints.file_list import Reader
from kaggle_manager.checkpoints.layout import TrainingTree, check_component, inside
from kaggle_manager.checkpoints.restore import check_restored
from kaggle_manager.checkpoints.sealed_json import count, digest, seal, text, unseal
from kaggle_manager.checkpoints.store import python_warning
from kaggle_manager.errors import OutputDamaged, StorageError

PACK_NAME = "training_tree.pack"
INDEX_NAME = "training_tree.json"

SCHEMA = 2
MAX_INDEX_BYTES = 1 << 20
MAX_FILES = 4096
MAX_TREE_BYTES = 1 << 40
"""More than any tree has: an index that announces it is damaged."""


@dataclass(frozen=True)
class PackIndex:
    """What `training_tree.json` says.

    Args:
        scenario: whose tree it is.
        step: the head's step.
        head_manifest_sha256: `Manifest.sha256` of the head: what a launch order names as parent.
        pack_size: bytes of the pack.
        files: what is in it, ordered by name; one that is no member of the tar has the bytes of one before it.
    """

    scenario: str
    step: int
    head_manifest_sha256: str
    pack_size: int
    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def pack_tree(tree: TrainingTree, folder: Path) -> list[Path]:
    """Write the two files into `folder` and return their paths, the pack first; what does not verify is left out.

    Raises:
        CheckpointNotFound: the tree holds no checkpoint.
        OutputDamaged: no checkpoint of the tree verifies.
        StorageError: the disk refused.
    """
    disk, safe = Disk(), f"the tree at {tree.root} was only read"
    pack, files = folder / PACK_NAME, []
    with storage_errors(f"Packing {tree.root}", safe=safe):
        disk.make_folder(folder)
        found = file_list.list_files(tree, disk)
        ensure_free_space(folder, found.size, safe=safe)
        # Of tar's formats the one for names and sizes without a bound, which is the same bytes for the same members.
        with tarfile.open(pack, "w", format=tarfile.GNU_FORMAT) as archive:
            packed = set()
            for item in found.items:
                if item.sha256 is not None and item.sha256 in packed:
                    files.append(FileEntry(item.name, item.size, item.sha256))
                    continue
                member = tarfile.TarInfo(item.name)  # a name and a size, and the same for all else
                with item.open(disk) as reader:
                    member.size = reader.size
                    archive.addfile(member, reader)  # type: ignore[arg-type]
                files.append(FileEntry(item.name, reader.size, reader.sha256))
                packed.add(reader.sha256)
        disk.sync(pack)
        index = PackIndex(
            scenario=tree.scenario,
            step=found.head.step,
            head_manifest_sha256=found.head.sha256,
            pack_size=pack.stat().st_size,
            files=tuple(files),
        )
        write_atomic(disk, folder / INDEX_NAME, seal(vars(index), schema=SCHEMA))
    return [pack, folder / INDEX_NAME]


def read_index(folder: Path) -> PackIndex:
    """Read `training_tree.json`, trusting nothing.

    Raises:
        OutputDamaged: it is missing, too large, damaged, or announces more than is allowed.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
        UnsafePath: it names a file this project would not write.
    """
    path = folder / INDEX_NAME
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError(f"it is larger than {MAX_INDEX_BYTES:,} bytes")
        body = unseal(path.read_bytes(), schema=SCHEMA, most=MAX_INDEX_BYTES, what=str(path))
        index = PackIndex(
            scenario=check_component(text(body["scenario"])),
            step=count(body["step"]),
            head_manifest_sha256=digest(body["head_manifest_sha256"]),
            pack_size=count(body["pack_size"]),
            files=parse_entries(body["files"], most=MAX_FILES),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputDamaged(f"{path} cannot be understood: {error}.", next_step="download the dataset again") from error
    different = sum({file.sha256: file.size for file in index.files}.values())
    if index.size > MAX_TREE_BYTES or different > index.pack_size or index.pack_size > MAX_TREE_BYTES:
        raise OutputDamaged(f"{path} announces more bytes than a tree or its own pack can have.")
    return index


def unpack_tree(folder: Path, destination: Path, *, warn: Callable[[str], None] = python_warning) -> PackIndex:
    """Unpack a packed tree into `destination`, which must not exist or be empty; return its index.

    Raises:
        OutputDamaged: the pack is not what its index says; the member is named.
        UnsafePath: a name this project would not write.
        StorageError: the disk refused, or the destination is not empty.
    """
    disk = Disk()
    safe = f"nothing was put into {destination}"
    index = read_index(folder)
    with storage_errors(f"Unpacking into {destination}", safe=safe):
        disk.make_folder(destination.parent)
        atomic_swap.begin(destination, disk)
        if destination.is_dir():
            if any(destination.iterdir()):
                raise StorageError(f"{destination} is not empty.", safe=safe, next_step="choose another folder")
            disk.remove_folder(destination)
        pack = folder / PACK_NAME
        if not pack.is_file() or pack.stat().st_size != index.pack_size:
            raise OutputDamaged(f"{pack} is missing or has another size than announced.", safe=safe)
        ensure_free_space(destination.parent, index.size, safe=safe)
        _unpack_members(pack, index, atomic_swap.incoming(destination), disk)
        staged = file_list.list_files(TrainingTree(atomic_swap.incoming(destination), index.scenario), disk)
        if staged.damaged or staged.head.sha256 != index.head_manifest_sha256:
            raise OutputDamaged(f"The head of {pack} is not the one announced. {' '.join(staged.damaged)}", safe=safe)
        atomic_swap.put_in_place(destination, destination.with_name(destination.name + ".kept"), disk)
    check_restored(TrainingTree(destination, index.scenario), staged, disk, warn)
    return index


def _unpack_members(pack: Path, index: PackIndex, folder: Path, disk: Disk) -> None:
    disk.make_folder(folder)
    there: dict[str, Shared] = {}
    try:
        with tarfile.open(pack, mode="r:") as archive:
            member = archive.next()
            for file in index.files:
                path, same = inside(folder, file.name), there.get(file.sha256)
                disk.make_folder(path.parent)
                if member is not None and member.name == file.name:
                    _unpack_member(archive, member, file, path, disk)
                    member = archive.next()
                elif same is not None and same.size == file.size:
                    contents.write(disk, path, same)
                else:
                    raise OutputDamaged(f"{file.name} is announced and not in {pack}.")
                disk.sync(path)
                there.setdefault(file.sha256, Shared(path, file.size, file.sha256))
    except tarfile.TarError as error:
        raise OutputDamaged(f"{pack} is not a readable pack: {error}.") from error
    if member is not None:
        raise OutputDamaged(f"{pack} holds {member.name[:120]!r}, which its index does not announce.")


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, file: FileEntry, path: Path, disk: Disk) -> None:
    if (member.size, member.type) != (file.size, tarfile.REGTYPE):
        raise OutputDamaged(f"{file.name} is of another kind or size in its pack than announced.")
    stream = archive.extractfile(member)
    assert stream is not None, "a regular file"
    reader = Reader(stream, file.size)  # type: ignore[arg-type]
    write_blocks(disk, path, reader.blocks())
    if reader.left or reader.sha256 != file.sha256:
        raise OutputDamaged(f"{file.name} has other bytes in its pack than announced.")
