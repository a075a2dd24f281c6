"""A training tree as a user wants to see it: its three levels, what lies in quarantine, and whether it verifies.

Promises: looking changes nothing in the tree; `verify_tree` reads every byte and names every file that is not what was
committed.
Never does: move anything; that is for the next session's search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kaggle_manager.checkpoints import Disk, Manifest, TrainingTree, atomic_slot, index, read_metadata, replay_files
from kaggle_manager.checkpoints.atomic_slot import Slot
from kaggle_manager.checkpoints.atomic_swap import check_place
from kaggle_manager.checkpoints.compatibility import is_another_task
from kaggle_manager.checkpoints.layout import inside
from kaggle_manager.errors import (
    CheckpointCorrupt,
    CheckpointIncompatible,
    CheckpointNotFound,
    ConfigError,
    UnsafePath,
    one_line,
)
from kaggle_manager.system.files import regular
from kaggle_manager.trees.evaluations import check_checksums, read_evaluations

HashState = Literal["verified", "damaged", "incompatible", "not read"]
"""`incompatible`: another version of kaggle-manager wrote it."""


_DISK = Disk()


@dataclass(frozen=True)
class CheckpointView:
    """One checkpoint of a tree.

    Attributes:
        level: `latest`, `best` or `final`.
        manifest: what it states; None when it is damaged itself, or another version wrote it.
        size: bytes of its files and its manifest.
        replay_size: committed bytes of its replay rows, which the latest checkpoints share.
        hash_state: what reading its bytes showed.
        problem: why it cannot be used, in a sentence.
    """

    level: str
    name: str
    manifest: Manifest | None
    size: int
    replay_size: int
    hash_state: HashState
    problem: str = ""


@dataclass(frozen=True)
class Verification:
    """What reading every byte of a tree showed: how many files and bytes, and a sentence for each problem."""

    files: int
    bytes: int
    problems: tuple[str, ...]


def look_at(tree: TrainingTree, *, verify: bool = True) -> list[CheckpointView]:
    """The latest checkpoints (newest first), the best and the final one.

    Args:
        tree: where to look; need not exist.
        verify: read and hash every file; else trust the manifests, where the files have the sizes they say.

    Raises:
        StorageError: something is there that can be no tree, such as a link to a disk that is not mounted.
    """
    check_place(tree.root)
    slots = [("latest", where) for where in index.latest_slots(tree)]
    slots += [("best", index.best_slot(tree)), ("final", index.final_slot(tree))]
    views = [view for level, where in slots if (view := _view(level, where, tree, verify)) is not None]
    order = ("latest", "best", "final")
    return sorted(views, key=lambda view: (order.index(view.level), -(view.manifest.step if view.manifest else -1)))


def best_of(views: Sequence[CheckpointView], trained: Manifest | None) -> Manifest | None:
    """The manifest of the best model of what is trained; as `CheckpointStore.best`, for who reads manifests alone.

    Args:
        trained: of a checkpoint of it, as a rule the newest; None for none.
    """
    best = next((view.manifest for view in views if view.level == "best"), None)
    of = trained.identity if trained else {}
    return None if best is None or is_another_task(best.identity, of) else best


def newest_of_run(tree: TrainingTree, run_id: str) -> Manifest | None:
    """The manifest of the newest checkpoint; None where there is none, or it is another run's."""
    manifests = [view.manifest for view in look_at(tree, verify=False) if view.manifest]
    return manifests[0] if manifests and manifests[0].lineage.run_id == run_id else None


def newest_saved(tree: TrainingTree) -> Manifest | None:
    """The manifest of the newest checkpoint; None for none. No other file is read."""
    found = [view.manifest for view in look_at(tree, verify=False) if view.level == "latest" and view.manifest]
    return max(found, key=lambda manifest: manifest.step, default=None)


def saved_step(tree: TrainingTree) -> int:
    """Timesteps of the newest checkpoint, as its manifest says; 0 for none."""
    newest = newest_saved(tree)
    return newest.step if newest else 0


def worst_state(views: Sequence[CheckpointView]) -> HashState:
    """The state of a whole tree: that of its worst checkpoint; `not read` for none."""
    order: tuple[HashState, ...] = ("damaged", "incompatible", "not read", "verified")
    return min((view.hash_state for view in views), key=order.index, default="not read")


def find_checkpoint(tree: TrainingTree, which: str, *, verify: bool = False) -> CheckpointView:
    """The checkpoint a user names: `latest`, `best`, `final`, or the timesteps of one.

    Raises:
        ConfigError: `which` is none of these.
        CheckpointNotFound: the tree has no such checkpoint.
    """
    if which not in ("latest", "best", "final") and not which.isdecimal():
        raise ConfigError(
            f"{which!r} is no checkpoint; latest, best, final, or timesteps such as 45000 are accepted.",
            safe="nothing was changed",
            next_step="`checkpoints ls`, with the same options, shows what there is",
        )
    views = look_at(tree, verify=verify)
    if not views:
        raise nothing_yet(tree)
    wanted = [view for view in views if view.manifest and which in (view.level, str(view.manifest.step))]
    if not wanted:
        there = ", ".join(f"{v.level} ({v.manifest.step:,})" for v in views if v.manifest) or "nothing"
        problems = " ".join({view.problem: None for view in views if view.problem})
        raise CheckpointNotFound(
            f"{tree.root} has no checkpoint {which}; it holds {there}. {problems}".rstrip(),
            safe="nothing was changed",
            next_step="name one of these",
        )
    return wanted[0]


def nothing_yet(tree: TrainingTree) -> CheckpointNotFound:
    """The error for a tree without a checkpoint."""
    return CheckpointNotFound(f"{tree.root} has no checkpoint yet.", safe="nothing was changed")


def verify_tree(tree: TrainingTree) -> Verification:
    """Read every byte that is committed in a tree, and its curves and metadata.

    Raises:
        CheckpointNotFound: there is no checkpoint in it at all.
        CheckpointIncompatible: another version of kaggle-manager wrote one, or the metadata.
        StorageError: as for `look_at`.
    """
    check_place(tree.root)
    slots = [*index.latest_slots(tree), index.best_slot(tree), index.final_slot(tree)]
    slots = [where for where in slots if _manifest_of(where) or where.manifest_path.exists()]
    if not slots:
        raise nothing_yet(tree)
    problems: list[str] = []
    sizes, segments = {}, {}
    for where in slots:
        problems += _problems_of(where.manifest_path, atomic_slot.look, where, _DISK)
        manifest = _manifest_of(where)
        sizes[where.manifest_path] = len(manifest.to_bytes()) if manifest else 0
        for entry in manifest.files if manifest else ():
            sizes[where.folder / entry.name] = entry.size
        for ref in manifest.segments if manifest else ():
            segments[ref.name, ref.length] = ref  # once, though both latest checkpoints share it
            sizes[tree.replay / ref.name] = max(ref.length, sizes.get(tree.replay / ref.name, 0))
    problems += _problems_of(tree.replay, replay_files.verify, tree.replay, segments.values(), _DISK)
    for path in tree.without_manifest():
        try:
            sizes[path] = inside(tree.root, path.relative_to(tree.root).as_posix()).stat().st_size
            _DISK.sha256(path, sizes[path])
            _check_content(path)
        except (OSError, CheckpointCorrupt, UnsafePath) as error:
            problems.append(_sentence(path, error))
    return Verification(len(sizes), sum(sizes.values()), tuple(dict.fromkeys(problems)))


def quarantined(tree: TrainingTree) -> Iterator[tuple[Path, str]]:
    """Each folder in quarantine, with its reason."""
    for folder in sorted(tree.quarantine.glob("*")) if tree.quarantine.is_dir() else ():
        yield folder, reason_in(folder)


def reason_in(folder: Path) -> str:
    """Why a folder was put where it is: the first line of its reason.txt."""
    try:
        with open(folder / "reason.txt", encoding="utf-8", errors="replace", opener=regular) as file:
            return one_line(file.readline(500).rstrip("\n"))
    except OSError:
        return ""


def _view(level: str, where: Slot, tree: TrainingTree, verify: bool) -> CheckpointView | None:
    try:
        manifest = _manifest_of(where)
    except CheckpointIncompatible as error:
        return CheckpointView(level, where.manifest_name, None, 0, 0, "incompatible", error.message)
    if manifest is None and not where.manifest_path.exists():
        return None
    problems = [] if manifest else [f"{where.manifest_path} does not match its own seal, or cannot be read."]
    if verify:
        problems = _problems_of(where.manifest_path, atomic_slot.look, where, _DISK)
        if manifest:
            problems += _problems_of(tree.replay, replay_files.verify, tree.replay, manifest.segments, _DISK)
    elif manifest and not where.pending_path.exists():  # else a commit is being finished
        problems = _size_problems(where, manifest, tree)
    size = sum(entry.size for entry in manifest.files) + len(manifest.to_bytes()) if manifest else 0
    replay = sum(ref.length for ref in manifest.segments) if manifest else 0
    state: HashState = "damaged" if problems else "verified" if verify else "not read"
    return CheckpointView(level, where.manifest_name, manifest, size, replay, state, " ".join(problems))


def _problems_of(path: Path, verify: Callable[..., object], *arguments: object) -> list[str]:
    """What `verify` finds at `path`, in a sentence."""
    try:
        verify(*arguments)
    except (CheckpointCorrupt, OSError) as error:
        return [_sentence(path, error)]
    return []


def _size_problems(where: Slot, manifest: Manifest, tree: TrainingTree) -> list[str]:
    """A sentence for each file that is missing or has too few bytes, or too many; nothing is read."""
    wanted: list[tuple[Path, int, int | None]]
    wanted = [(where.folder / entry.name, entry.size, entry.size) for entry in manifest.files]
    for ref in manifest.segments:
        wanted.append((tree.replay / ref.name, ref.length, None))  # a newer checkpoint may have added to it
    found = []
    for path, least, most in wanted:
        try:
            size = path.stat().st_size
        except OSError as error:
            found.append(_sentence(path, error))
            continue
        if size < least or (most is not None and size > most):
            found.append(f"{path} has {size:,} bytes where {least:,} were committed.")
    return found


def _manifest_of(where: Slot) -> Manifest | None:
    """The manifest a slot shows; a commit cut before its last rename counts."""
    for path in (where.pending_path, where.manifest_path):
        try:
            if (manifest := index.read_manifest(path, _DISK)) is not None:
                return manifest
        except OSError:
            continue
    return None


def _check_content(path: Path) -> None:
    """No manifest lists curves and metadata; those with a checksum of their own are verified against it.

    Raises:
        CheckpointCorrupt: it is not what was written.
    """
    if path.suffix == ".npz":
        check_checksums(path)
        read_evaluations(path)
    elif path.name == "training_metadata.json":
        read_metadata(path)


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or path} cannot be read: {error.strerror or error}."
    return str(getattr(error, "message", error))
