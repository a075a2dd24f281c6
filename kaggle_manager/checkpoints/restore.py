"""A downloaded training tree becomes the local one, all of it or nothing.

Promises: every file is verified before the first local one is touched; the replaced tree is kept; a crash at any
instant is finished or undone at the next start; the last act is to ask the trainer's own search, which must find the
head at its step. An empty, foreign or older tree is an error, never "normal for a first run".
Never does: mix two trees, or delete the one it replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import atomic_swap, contents, file_list
from kaggle_manager.checkpoints.atomic_io import Disk, ensure_free_space, storage_errors, write_atomic
from kaggle_manager.checkpoints.contents import Shared, write_blocks
from kaggle_manager.checkpoints.file_list import FileList
from kaggle_manager.checkpoints.layout import TrainingTree, inside
from kaggle_manager.checkpoints.store import CheckpointStore, python_warning
from kaggle_manager.errors import CheckpointNotFound, LineageMismatch


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.

    Args:
        step: the step the trainer resumes from.
        manifest_sha256: the head's manifest: the parent of the next session.
        generation: the session that wrote it.
        files: (name relative to the tree, bytes) of every restored file.
        replaced: where the tree that was there is kept now; None when there was none.
        left_out: a sentence for each checkpoint that did not verify and stayed behind.
    """

    step: int
    manifest_sha256: str
    generation: int
    files: tuple[tuple[str, int], ...]
    replaced: Path | None
    left_out: tuple[str, ...]


def restore_tree(
    source: Path,
    tree: TrainingTree,
    *,
    keep_replaced: Path,
    run_id: str | None = None,
    generation: int | None = None,
    min_step: int = 0,
    reason: str = "",
    disk: Disk | None = None,
    warn: Callable[[str], None] = python_warning,
) -> RestoreReport:
    """Replace `tree` by the verified content of `source`; a checkpoint that does not verify is left out.

    Args:
        source: root of a downloaded tree of the same scenario; it is only read.
        tree: the local tree; need not exist yet.
        keep_replaced: the folder the replaced tree becomes (a number is added when it exists).
        run_id: the run the head must belong to; None for any.
        generation: the session that must have written the head; None for any.
        min_step: the step the head must have reached.
        reason: why the tree that is here is replaced, in a sentence, kept with it; it may then be newer.
        disk: the effects; tests inject one that dies or fails.
        warn: told what the user should know.

    Raises:
        CheckpointNotFound: the source holds no checkpoint.
        OutputDamaged: no checkpoint of the source verifies; the damaged files are named.
        LineageMismatch: another run, another generation, or an older step than was asked for or is here.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
        UnsafePath: the source has a symbolic link or a name this project does not write.
        StorageError: the disk refused.
    """
    disk = disk or Disk()
    safe = f"the tree at {tree.root} was not touched"
    with storage_errors(f"Restoring into {tree.root}", safe=safe):
        atomic_swap.check_place(tree.root)
        disk.make_folder(tree.root.parent)
        atomic_swap.begin(tree.root, disk)
        found = file_list.list_files(TrainingTree(source, tree.scenario), disk)
        _check_lineage(found, run_id, generation, min_step, safe)
        if not reason:
            _check_not_older(found, tree, disk, safe)
        ensure_free_space(atomic_swap.real_folder(tree.root).parent, found.size, safe=safe)
        copy_verified(found, atomic_swap.incoming(tree.root), disk)
        replaced = atomic_swap.put_in_place(tree.root, keep_replaced, disk)
    check_restored(tree, found, disk, warn)
    if reason and replaced is not None:
        with storage_errors("Writing down why", safe=f"{tree.root} is restored, and what was there is in {replaced}"):
            write_atomic(disk, replaced / "reason.txt", (reason + "\n").encode())
    return RestoreReport(
        step=found.head.step,
        manifest_sha256=found.head.sha256,
        generation=found.head.lineage.generation,
        files=tuple((item.name, item.size) for item in found.items),
        replaced=replaced,
        left_out=found.damaged,
    )


def archive_tree(tree: TrainingTree, archive: Path, reason: str) -> Path:
    """Move a whole tree, replay rows included, to `archive`, with the reason; return the folder it became.

    Args:
        tree: the tree that is not to be used any more.
        archive: the folder it becomes (a number is added when it exists).
        reason: why, in a sentence, for the one who finds it.

    Raises:
        CheckpointNotFound: there is no such tree.
        StorageError: the disk refused; the tree is where it was.
    """
    disk = Disk()
    with storage_errors(f"Archiving {tree.root}", safe="the tree is here or in the archive, whole"):
        place = atomic_swap.real_folder(tree.root)
        atomic_swap.finish(place, disk)
        if not place.is_dir():
            raise CheckpointNotFound(f"There is no training tree at {tree.root}.")
        kept = atomic_swap.set_aside(place, archive, disk)
        disk.sync_folder(place.parent)
        write_atomic(disk, kept / "reason.txt", (reason + "\n").encode())
    return kept


def copy_verified(found: FileList, folder: Path, disk: Disk) -> None:
    """Write every item of a list under `folder`, synced file by file; large ones that are the same are kept once.

    Raises:
        OSError: from the disk.
        OutputDamaged: an item changed since the list was made.
    """
    written: dict[str, Shared] = {}
    for item in found.items:
        path = inside(folder, item.name)
        disk.make_folder(path.parent)
        same = written.get(item.sha256 or "")
        if same is not None and same.is_kept_once:
            contents.write(disk, path, same)
        else:
            with item.open(disk) as reader:
                write_blocks(disk, path, reader.blocks())
            written[reader.sha256] = Shared(path, reader.size, reader.sha256)
        disk.sync(path)


def check_restored(tree: TrainingTree, expected: FileList, disk: Disk, warn: Callable[[str], None]) -> None:
    """Ask the trainer's own search for the head.

    Raises:
        CheckpointNotFound: it finds nothing, or something else.
    """
    head = CheckpointStore(tree, disk=disk, warn=warn).find_latest_checkpoint()
    if head is None or head.manifest != expected.head:
        raise CheckpointNotFound(
            f"Step {expected.head.step:,} was restored into {tree.root}, but the newest checkpoint found there is "
            f"{'nothing' if head is None else f'step {head.step:,}'}.",
            safe="the downloaded tree and the replaced one are kept",
            next_step="check the disk, then restore again",
        )


def _check_lineage(found: FileList, run_id: str | None, generation: int | None, min_step: int, safe: str) -> None:
    lineage = found.head.lineage
    problems = []
    if run_id not in (None, lineage.run_id):
        problems.append(f"it belongs to run {lineage.run_id} and {run_id} was expected")
    elif generation not in (None, lineage.generation):
        problems.append(f"session {lineage.generation} wrote it and {generation} was expected")
    if found.head.step < min_step:
        problems.append(f"it is at step {found.head.step:,} and at least {min_step:,} was expected")
    if problems:
        raise LineageMismatch(
            f"The checkpoint that came back is not the one to continue with: {'; '.join(problems)}.",
            safe=safe,
            next_step="download the outputs of the session that was launched",
        )


def _check_not_older(found: FileList, tree: TrainingTree, disk: Disk, safe: str) -> None:
    """Refuse to put an older step of the same run over a newer one."""
    here = CheckpointStore(tree, disk=disk).valid_checkpoints()
    if not here or here[0].manifest.lineage.run_id != found.head.lineage.run_id:
        return
    if here[0].step > found.head.step:
        raise LineageMismatch(
            f"The checkpoint that came back is at step {found.head.step:,} and the tree here is at {here[0].step:,}.",
            safe=safe,
            next_step="continue from the tree that is here",
        )
