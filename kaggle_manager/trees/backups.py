"""The kept copies of one training tree: backups, archives, replaced and downloaded trees, and what is in quarantine.

Promises: one list names every copy this machine keeps, however it was made; a backup is verified byte by byte before it
counts; the newest copy that verifies is never freed, nor one that a session still needs; the training tree itself is
never touched. Copies are bounded: beyond `KM_KEEP_GB` (default 20) the least useful go, and it is said which.
Never does: follow a symbolic link, or free anything outside the folders it lists.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, restore_tree
from kaggle_manager.checkpoints.atomic_io import free_name, remove_tree, storage_errors, write_atomic
from kaggle_manager.checkpoints.atomic_swap import real_folder
from kaggle_manager.config import RunConfig, variable_of
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError, StorageError
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.system.files import size_below
from kaggle_manager.system.formatting import size
from kaggle_manager.trees.inspect import look_at, newest_of_run, quarantined, reason_in

KINDS = ("quarantine", "download", "replaced", "backup", "archive")
"""In the order in which they are freed: what can be had again first, the only copy of an ended training last."""

_STAMP = r"\d{8}T\d{6}"


@dataclass(frozen=True)
class Copy:
    """One kept copy.

    Attributes:
        kind: one of `KINDS`.
        step, generation, run_id: of its newest checkpoint; None and "" when it has none, as in quarantine.
        size: bytes on the disk.
        saved_at: when that checkpoint was saved (ISO 8601, UTC); "" when unknown.
        reason: why it was put there.
        in_use: a session that is not closed still needs it.
    """

    kind: str
    folder: Path
    step: int | None
    generation: int | None
    run_id: str
    size: int
    saved_at: str
    reason: str
    in_use: bool = False


def find_copies(config: RunConfig) -> list[Copy]:
    """Every kept copy of the tree of `config`, newest first; only manifests are read."""
    others, open_downloads = _journal_says(config)
    found = [
        copy
        for kind, folder in _folders(config.tree, config.state)
        if (copy := _copy(kind, folder, config, folder in open_downloads)) and _belongs(copy, config, others)
    ]
    root = TrainingTree(config.tree, config.scenario_name)
    found += [Copy("quarantine", f, None, None, "", size_below(f), "", why) for f, why in quarantined(root)]
    return sorted(found, key=_age, reverse=True)


def newest_valid(copies: Sequence[Copy], scenario: str) -> Copy | None:
    """The newest copy, of a list ordered by `find_copies`, with a checkpoint whose bytes verify."""
    for copy in copies:
        if copy.step is not None and CheckpointStore(TrainingTree(copy.folder, scenario)).valid_checkpoints():
            return copy
    return None


def latest_backup(copies: Sequence[Copy]) -> Copy | None:
    """What `restore --from latest` means: the newest backup of a list ordered by `find_copies`."""
    return next((copy for copy in copies if copy.kind == "backup" and copy.step is not None), None)


def plan_prune(
    copies: Sequence[Copy], newest: Copy | None, *, keep: int = 1, kinds: Collection[str] = KINDS
) -> list[Copy]:
    """Which copies a prune frees: those of `kinds` but the `keep` newest, `newest`, and what a session needs. Pure."""
    if keep < 1:
        raise ConfigError("At least one copy is kept.", safe="nothing was freed", next_step="give --keep 1 or more")
    spared = [newest, *[copy for copy in copies if copy.step is not None][:keep]]
    return [copy for copy in copies if copy.kind in kinds and copy not in spared and not copy.in_use]


def plan_limit(copies: Sequence[Copy], newest: Copy | None, limit: int) -> list[Copy]:
    """Which copies go so that all together take at most `limit` bytes; never `newest`, never one in use. Pure.

    They go kind by kind in the order of `KINDS`, the oldest of each first.
    """
    total, gone = sum(copy.size for copy in copies), []
    for copy in sorted(copies, key=lambda copy: (KINDS.index(copy.kind), copy.saved_at, copy.folder.name)):
        if total <= limit:
            break
        if copy != newest and not copy.in_use:
            gone.append(copy)
            total -= copy.size
    return gone


def check_kinds(kinds: Sequence[str] | None) -> Sequence[str]:
    """The kinds asked for; all when none was. Raises ConfigError for one that does not exist."""
    if unknown := set(kinds or ()) - set(KINDS):
        raise ConfigError(
            f"{sorted(unknown)[0]!r} is not a kind of copy; accepted: {', '.join(KINDS)}.",
            safe="nothing was deleted",
            next_step="give one of these with --kind, or leave it out for all of them",
        )
    return kinds or KINDS


def free(copies: Sequence[Copy]) -> int:
    """Delete these copies; return the bytes freed. The caller holds the tree's lock.

    Raises:
        StorageError: the disk refused; what was not reached is whole.
    """
    for copy in copies:
        with storage_errors(f"Freeing {copy.folder}", safe="the training tree is untouched"):
            if copy.folder.is_symlink():
                raise ConfigError(f"{copy.folder} is a symbolic link.", safe="it was left where it is")
            remove_tree(Disk(), copy.folder)
    return sum(copy.size for copy in copies)


def within_limit(config: RunConfig) -> list[str]:
    """Free what is over the limit; return a sentence for each copy that went. The caller holds the tree's lock.

    Raises:
        StorageError: the disk refused.
    """
    limit = config.keep_bytes
    copies = find_copies(config)
    if sum(copy.size for copy in copies) <= limit:
        return []
    gone = plan_limit(copies, newest_valid(copies, config.scenario_name), limit)
    free(gone)
    over = f"kept copies are limited to {size(limit)} ({variable_of('keep_gb')})"
    return [f"{copy.folder} ({copy.kind}, {size(copy.size)}) was dropped: {over}" for copy in gone]


def back_up(config: RunConfig, why: str) -> Copy:
    """Copy the training tree, verified byte by byte, beside the other kept copies. The caller holds the tree's lock.

    Raises:
        CheckpointNotFound: there is nothing to back up.
        OutputDamaged: no checkpoint of the tree verifies.
        StorageError: the disk refused; nothing half-made counts.
    """
    tree = TrainingTree(config.tree, config.scenario_name)
    disk = Disk()
    folder = free_name(backups_folder(config) / stamped_name(config))
    with storage_errors("Backing up", safe=f"the training tree {tree.root} was only read"):
        for cut in folder.parent.glob(f"{config.tree_key}-*.incoming"):
            remove_tree(disk, cut)
        copy = TrainingTree(folder, tree.scenario)
        restore_tree(tree.root, copy, keep_replaced=folder.with_name(folder.name + "_replaced"))
        write_atomic(disk, folder / "reason.txt", (why + "\n").encode())
    made = _copy("backup", folder, config, False)
    if made is None:
        raise CheckpointCorrupt(f"The backup in {folder} cannot be read back.", safe=f"{tree.root} was only read")
    return made


def backups_folder(config: RunConfig) -> Path:
    """Where backups made by hand are kept."""
    return config.state / "backups"


def stamped_name(config: RunConfig) -> str:
    """The name of a copy made now."""
    return f"{config.tree_key}-{datetime.now(UTC):%Y%m%dT%H%M%S}"


def is_kept_here(run: RunRow, state: Path, *, step: int, manifest_sha256: str = "") -> bool:
    """Whether a checkpoint of `run`, of `step` or later, verifies in its training tree or in a kept copy of one.

    Args:
        state: folder of the journal that the run is of.
        manifest_sha256: the one checkpoint that will do; "" for any.
    """
    for folder in (Path(run.tree), *(folder for _, folder in _folders(Path(run.tree), state))):
        tree = TrainingTree(folder, run.scenario)
        with contextlib.suppress(CheckpointIncompatible, StorageError):
            if newest_of_run(tree, run.run_id) is None:
                continue  # not read in full
            for found in CheckpointStore(tree).valid_checkpoints():
                is_of_run = found.manifest.lineage.run_id == run.run_id and found.step >= step
                if is_of_run and manifest_sha256 in ("", found.manifest.sha256):
                    return True
    return False


def _folders(tree: Path, state: Path) -> Iterator[tuple[str, Path]]:
    place = real_folder(tree)
    places = {
        "backup": (state / "backups").glob("*"),
        "archive": [*(state / "archive").glob("*"), *place.parent.glob(f"{place.name}_archived*")],
        "replaced": [*(state / "replaced").glob("*/*"), *place.parent.glob(f"{place.name}.kept*")],
        "download": (state / "downloads").glob(f"*/*/{TREE_FOLDER}"),
    }
    for kind, folders in places.items():
        for folder in folders:
            if folder.is_dir() and not folder.is_symlink() and folder.suffix not in (".incoming", ".ready"):
                yield kind, folder


def _copy(kind: str, folder: Path, config: RunConfig, in_use: bool) -> Copy | None:
    """What a folder holds of the scenario; None when it holds another scenario's."""
    views = look_at(TrainingTree(folder, config.scenario_name), verify=False)
    manifests = [view.manifest for view in views if view.manifest]
    if manifests and all(manifest.scenario != config.scenario_name for manifest in manifests):
        return None
    latest = [view.manifest for view in views if view.level == "latest" and view.manifest]
    newest = latest[0] if latest else None
    return Copy(
        kind,
        folder,
        newest.step if newest else None,
        newest.lineage.generation if newest else None,
        newest.lineage.run_id if newest else "",
        size_below(folder),
        newest.created_at if newest else "",
        reason_in(folder),
        in_use,
    )


def _age(copy: Copy) -> tuple[str, int, int, int, str]:
    """Sorts copies from old to new. `saved_at` has whole seconds, and a short session takes less than one."""
    return copy.saved_at, copy.generation or 0, copy.step or 0, KINDS.index(copy.kind), copy.folder.name


def _belongs(copy: Copy, config: RunConfig, others: frozenset[str]) -> bool:
    """Whether a copy is of this very tree: by the name it was given, else by the run that made it."""
    if copy.folder.parent == real_folder(config.tree).parent:
        return True
    if stamped := re.fullmatch(rf"(.+)-{_STAMP}(_\d+)?", copy.folder.name):
        return stamped[1] == config.tree_key
    return copy.run_id not in others and not others.intersection(copy.folder.parts)


def _journal_says(config: RunConfig) -> tuple[frozenset[str], set[Path]]:
    """The runs of other trees, and the downloaded trees of sessions that are not closed."""
    with contextlib.closing(Journal.to_read(config.journal)) as journal:
        runs, own = journal.runs(), {run.run_id for run in journal.runs_of(config.tree)}
        opened = {
            config.downloads / run.run_id / f"generation_{session.generation}" / TREE_FOLDER
            for run in runs
            for session in journal.sessions(run.run_id)
            if session.stage is not Stage.CLOSED
        }
    return frozenset(run.run_id for run in runs) - own, opened
