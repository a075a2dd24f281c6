"""The three levels of checkpoints of one training tree: two latest, one best, one final.

Promises: once a save returned, that checkpoint is found again after any crash; after the second save two valid latest
checkpoints exist at every instant; the older is deleted only after the newer was read back from the disk and verified;
the best model is replaced only by a strictly better one; the final model is written once for its target.
Never does: resume from best; delete what did not verify (it goes to quarantine, loudly); take a name or a modification
time for a fact; start from zero silently.

Looking and mending are two things. `find_latest_checkpoint`, `valid_checkpoints`, `best` and `final` change nothing and
may be called while another process saves. `recover`, `claim_latest_checkpoint` and the saves are for the one process
that holds the tree (`tree_lock`): they alone put what is damaged into quarantine.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

from kaggle_manager.checkpoints import atomic_slot, atomic_swap, index, recovery, replay_files
from kaggle_manager.checkpoints.atomic_io import Disk, ensure_free_space, own_folder, storage_errors
from kaggle_manager.checkpoints.atomic_slot import Content, Slot
from kaggle_manager.checkpoints.checkpoint import Checkpoint
from kaggle_manager.checkpoints.compatibility import is_another_task
from kaggle_manager.checkpoints.contents import Contents
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX, TrainingTree
from kaggle_manager.checkpoints.manifest import Kind, Lineage, Manifest, ReplayCommit
from kaggle_manager.checkpoints.vouched import MADE_HERE, Vouched
from kaggle_manager.errors import CheckpointCorrupt, LineageMismatch, StorageError, UnsafePath

KEPT = 2
"""Latest checkpoints kept."""


class Facts(TypedDict, total=False):
    """What a manifest states beside the files; see `Manifest` for each."""

    target: Required[int]
    lineage: Required[Lineage]
    bundle_sha256: Required[str]
    identity: Mapping[str, Any]
    certificate: str
    exact: Mapping[str, Any]
    metrics: Mapping[str, Any]


def warn_loudly(message: str) -> None:
    """Warn through Python's `warnings`: the default where the caller gives no other way."""
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class _Search:
    """What a search for the newest latest checkpoint found: it, what was refused before it and why, and how it looked.

    Attributes:
        unsettled: there is more than could be read: the tree was being changed.
    """

    newest: Content | None
    refused: Sequence[tuple[Slot, str]]
    unreadable: Sequence[Slot]
    disk_refuses: bool
    unsettled: bool

    @property
    def is_sound(self) -> bool:
        """Whether another look would find the same."""
        return not self.refused and (self.newest is not None or not self.unsettled)


class CheckpointStore:
    """Saves, finds and keeps the checkpoints of one training tree. One process at a time may save.

    Args:
        tree: where.
        disk: the effects; tests inject one that dies or fails.
        warn: told, in a sentence, what the user should know: damage and quarantine.
        now: the time written into manifests, for people.
        vouched: told of each latest checkpoint before it is committed; None where nobody continues it unasked.
    """

    def __init__(
        self,
        tree: TrainingTree,
        *,
        disk: Disk | None = None,
        warn: Callable[[str], None] = warn_loudly,
        now: Callable[[], str] = _utc_now,
        vouched: Vouched | None = None,
    ) -> None:
        self.tree = tree
        self._disk = disk or Disk()
        self._warn = warn
        self._now = now
        self._vouched = vouched

    # ---------------------------------------------------------------------------------------------------- latest

    def save_latest(
        self,
        *,
        step: int,
        model: bytes,
        state: bytes,
        replay: ReplayCommit | None = None,
        sources: bytes = b"",
        **facts: Unpack[Facts],
    ) -> Checkpoint:
        """Commit one latest checkpoint, verify it by reading it back, then delete what is older than the two newest.

        Saving a step again replaces that step's checkpoint.

        Args:
            step: environment steps trained so far, over all sessions.
            model, state: bytes of the two files.
            replay: from `ReplayLog.write`, whose rows are durable when it returns.
            sources: what its experiment is made of, see `checkpoints.sources`; b"" for none.
            facts: `target`, `lineage` and `bundle_sha256`; where they are known `identity`, `certificate`, `exact` and
                `metrics`. See `Manifest`.

        Raises:
            LineageMismatch: the tree holds a later step than this one: it belongs to a training that went further.
            StorageError: the disk refused. The checkpoints that were there still load.
            CheckpointCorrupt: what was written does not read back. It is in quarantine; the older ones still load.
        """
        contents = {self.tree.model_name(step): model, self.tree.state_name(step): state}
        if sources:
            contents[self.tree.sources_name(step)] = sources
        manifest = self._manifest("latest", step, contents, facts, replay)
        where = index.latest_slot(self.tree, step)
        self._refuse_going_back(step)
        if self._vouched is not None:
            self._vouched.add([manifest], MADE_HERE)
        with self._storage_errors(f"Saving the checkpoint of step {step:,}"):
            try:
                checkpoint = self._commit(where, manifest, contents)
            except CheckpointCorrupt as error:
                self._quarantine(where, error.message)
                raise
            self._rotate()
        return checkpoint

    def find_latest_checkpoint(self) -> Checkpoint | None:
        """Return the newest latest checkpoint that verifies, replay rows included; None when there is none at all.

        For one that is damaged or cannot be read the older one is returned, with a warning. Changes nothing.

        Raises:
            CheckpointCorrupt: there are checkpoints and none of them verifies, or a restore was interrupted before its
                last step.
            CheckpointIncompatible: another version of kaggle-manager wrote one.
            StorageError: none can be read because the disk refuses.
        """
        found = self._search()
        for wait_s in atomic_slot.LOOKS_AGAIN_S:
            if found.is_sound:
                break
            time.sleep(wait_s)
            found = self._search()
        if self._is_swapped:
            raise CheckpointCorrupt(
                f"A restore of {self.tree.root} was interrupted before its last step.",
                safe=f"the restored tree, which is whole, in {atomic_swap.ready(self.tree.root)}",
                next_step="run or train this again: that finishes the restore first",
            )
        for _, reason in found.refused if found.newest is not None else ():
            self._warn(reason)
        return self._chosen(found)

    def claim_latest_checkpoint(self) -> Checkpoint | None:
        """As `find_latest_checkpoint`, for the process that holds the tree: an interrupted restore is finished first.

        What is damaged or cannot be read is moved to quarantine with the reason, loudly, when an older checkpoint can
        be used: the saves to come would be behind it. Else everything stays where it is, and the next call says the
        same.

        Raises:
            CheckpointCorrupt, CheckpointIncompatible, StorageError: as `find_latest_checkpoint`.
        """
        if self._is_swapped:
            with self._storage_errors("Finishing an interrupted restore"):
                atomic_swap.finish(self.tree.root, self._disk)
        found = self._search()
        for where, reason in found.refused if found.newest is not None else ():
            self._quarantine(where, reason)
        return self._chosen(found)

    def _search(self) -> _Search:
        named = index.latest_slots(self.tree)
        found = index.read_index(self.tree, self._disk)
        refused = [(where, f"{where.manifest_name} does not match its own seal.") for where in found.damaged]
        disk_refuses, newest = bool(found.unreadable), None
        for where, _ in found.newest_first:
            try:
                newest = self._read_verified(where)
            except CheckpointCorrupt as error:
                refused.append((where, error.message))
            except OSError:
                disk_refuses = True
                refused.append((where, f"{where.manifest_name} or a file of it cannot be read."))
            if newest is not None:
                break
        return _Search(newest, refused, found.unreadable, disk_refuses, bool(named) or self._is_swapped)

    def _chosen(self, found: _Search) -> Checkpoint | None:
        if found.newest is None:
            self._refuse_to_start_over([reason for _, reason in found.refused], found.disk_refuses)
            return None
        for where in found.unreadable:
            self._warn(f"{where.manifest_name} cannot be read. It was left where it is.")
        if found.refused or found.unreadable:
            self._warn(f"The checkpoint of step {found.newest.manifest.step:,} is used.")
        return self._checkpoint(found.newest)

    def valid_checkpoints(self) -> list[Checkpoint]:
        """Return the latest checkpoints that verify, newest first. Changes nothing and warns of nothing.

        Raises:
            CheckpointIncompatible: another version of kaggle-manager wrote one.
        """
        found = []
        for where, _ in index.read_index(self.tree, self._disk).newest_first:
            with contextlib.suppress(CheckpointCorrupt, OSError):
                found.append(self._read_verified(where))
        return [self._checkpoint(content) for content in found if content is not None]

    # ------------------------------------------------------------------------------------------------ best, final

    def save_best(
        self,
        *,
        score: float,
        step: int,
        model: bytes,
        **facts: Unpack[Facts],
    ) -> bool:
        """Replace the best model if `score` is strictly higher than its score; say whether it was.

        A score of another environment or reward is none to compare with. A score that is not finite never wins. The
        older best is gone only once the newer is committed.

        Raises:
            StorageError: the disk refused. The best model that was there still loads.
            CheckpointCorrupt: what was written does not read back.
        """
        current = self._own(index.best_slot(self.tree))
        if current is not None and is_another_task(current.manifest.identity, facts.get("identity", {})):
            current = None
        best_score = None if current is None else current.manifest.score
        if not math.isfinite(score) or (best_score is not None and score <= best_score):
            return False
        contents = {self.tree.best_model_name: model}
        facts["metrics"] = {**facts.get("metrics", {}), "score": float(score)}
        manifest = self._manifest("best", step, contents, facts)
        with self._storage_errors(f"Saving the best model, of step {step:,},"):
            self._commit(index.best_slot(self.tree), manifest, contents)
        return True

    def best(self, of: Mapping[str, Any] | None = None) -> Checkpoint | None:
        """Return the best model of what is trained; None when there is none yet, or it is damaged, of which is warned.

        That of another environment or reward, from before a change that was accepted, is none: its score says nothing
        of this one. It stays on the disk until one of this takes its place. Changes nothing.

        Args:
            of: the identity of what is trained; None: that of the newest checkpoint.

        Raises:
            CheckpointIncompatible: another version of kaggle-manager wrote a checkpoint.
            StorageError: it cannot be read because the disk refuses.
        """
        found = self.best_on_disk()
        if found is not None and of is None:
            with self._storage_errors("Reading the newest checkpoint's manifest"):
                newest = index.newest_manifest(self.tree, self._disk)
            of = newest.identity if newest else None
        return None if found is None or is_another_task(found.manifest.identity, of or {}) else found

    def best_on_disk(self) -> Checkpoint | None:
        """Return the best model, also that of another environment or reward; None as `best`. Changes nothing.

        Raises:
            StorageError: it cannot be read because the disk refuses.
        """
        return self._seen(index.best_slot(self.tree))

    def save_final(
        self,
        *,
        step: int,
        files: Contents,
        **facts: Unpack[Facts],
    ) -> Checkpoint:
        """Write the final model once. `files` is keyed by the names in `TrainingTree` (`final_model_name`, ...).

        When a valid final model of this step or a later one is there, it is returned unchanged; one of an earlier step
        (the target was raised) is replaced.

        Raises:
            StorageError: the disk refused. A final model that was there still loads.
            CheckpointCorrupt: what was written does not read back.
        """
        current = self._own(index.final_slot(self.tree))
        if current is not None and current.step >= step:
            return current
        manifest = self._manifest("final", step, files, facts)
        with self._storage_errors("Saving the final model"):
            final = self._commit(index.final_slot(self.tree), manifest, files)
            for old in current.manifest.files if current else ():
                if old.name not in files:  # else it would lie beside a model that it is not of
                    self._disk.unlink(self.tree.root / old.name)
        return final

    def final(self) -> Checkpoint | None:
        """Return the final model; None when there is none yet, or it is damaged, of which is warned. Changes nothing.

        Raises:
            StorageError: it cannot be read because the disk refuses.
        """
        return self._seen(index.final_slot(self.tree))

    # --------------------------------------------------------------------------------------------------- recovery

    def recover(self) -> list[str]:
        """Bring the tree in order after a crash: finish or undo what was cut, remove what no manifest names.

        Returns what was done, a line each.

        Meant for the start of a session, before `claim_latest_checkpoint`. Doing it twice does nothing more.

        Raises:
            StorageError: the disk refused. Every committed checkpoint still loads.
        """
        with self._storage_errors("Bringing the training tree in order"):
            return recovery.recover(self.tree, self._disk)

    # ---------------------------------------------------------------------------------------------------- helpers

    def _manifest(
        self, kind: Kind, step: int, contents: Contents, facts: Facts, replay: ReplayCommit | None = None
    ) -> Manifest:
        return Manifest(
            kind=kind,
            scenario=self.tree.scenario,
            step=step,
            files=atomic_slot.entries_for(contents),
            replay=replay,
            created_at=self._now(),
            **facts,
        )

    def _read_verified(self, where: Slot) -> Content | None:
        """Return a slot's content, its replay rows verified as well; None when nothing was committed there.

        Raises:
            CheckpointCorrupt: a file or a replay segment is damaged.
            OSError: one cannot be read, which proves no damage.
        """
        content = atomic_slot.read(where, self._disk)
        if content is not None:
            replay_files.verify(self.tree.replay, content.manifest.segments, self._disk)
        return content

    def _refuse_to_start_over(self, damage: Sequence[str], disk_refuses: bool) -> None:
        """Raise when there are checkpoints of which none can be used."""
        if disk_refuses:
            raise StorageError(
                f"The latest checkpoints in {self.tree.root} cannot be read: the disk refuses.",
                safe="they were left where they are",
                next_step="check the disk, then start the same command again",
            )
        if damage:
            raise CheckpointCorrupt(
                f"None of the latest checkpoints in {self.tree.root} can be used. {' '.join(damage)}",
                safe="their files, which were left where they are",
                next_step="restore the tree from its last copy, or start again with --fresh",
            )

    def _seen(self, where: Slot) -> Checkpoint | None:
        """A reader's view of a slot."""
        with self._storage_errors(f"Reading {where.manifest_name}"):
            try:
                content = atomic_slot.look(where, self._disk)
            except CheckpointCorrupt as error:
                self._warn(error.message)
                return None
        return None if content is None else self._checkpoint(content)

    def _own(self, where: Slot) -> Checkpoint | None:
        """An owner's view of a slot: what is damaged is put aside before anything takes its place."""
        with self._storage_errors(f"Reading {where.manifest_name}"):
            content = self._read_slot(where)
        return None if content is None else self._checkpoint(content)

    def _checkpoint(self, content: Content) -> Checkpoint:
        return Checkpoint(content.manifest, self.tree, content.paths)

    def _refuse_going_back(self, step: int) -> None:
        """Saving behind a later checkpoint would rotate the new one out at once."""
        later = [other for _, other in index.read_index(self.tree, self._disk).newest_first if other > step]
        if later:
            raise LineageMismatch(
                f"Step {step:,} cannot be saved: {self.tree.root} holds a checkpoint of step {later[0]:,}.",
                safe=self._safe,
                next_step="resume from that checkpoint, or archive the tree with --fresh",
            )

    def _commit(self, where: Slot, manifest: Manifest, contents: Contents) -> Checkpoint:
        """Replace a slot's content and read it back.

        Raises:
            CheckpointCorrupt: it does not read back as it was written.
        """
        own_folder(self._disk, where.folder)
        needed = sum(file.size for file in manifest.files) + len(manifest.to_bytes())
        ensure_free_space(where.folder, needed, safe=self._safe)
        atomic_slot.commit(where, manifest, contents, self._disk)
        content = atomic_slot.read(where, self._disk)
        if content is None or content.manifest != manifest:
            raise CheckpointCorrupt(
                f"{where.manifest_name} does not read back as it was written.",
                safe=self._safe,
                next_step="check the disk",
            )
        return self._checkpoint(content)

    def _rotate(self) -> None:
        """Delete what is older than the two newest that verify, and the replay segments neither of them needs."""
        kept: list[Manifest] = []
        found = index.read_index(self.tree, self._disk)
        all_known = not found.unreadable and not found.damaged
        for where, _ in found.newest_first:
            if len(kept) == KEPT:
                recovery.delete_slot(where, self._disk)
                continue
            try:
                content = self._read_slot(where)
            except OSError as error:  # perhaps not for ever: it stays, and so does all it needs
                self._warn(f"{where.manifest_name} cannot be read and was left where it is: {error}.")
                all_known = False
            else:
                kept += [content.manifest] if content else []
        if all_known:
            needed = {ref.name for manifest in kept for ref in manifest.segments}
            replay_files.drop_unneeded(self.tree.replay, needed, self._disk)

    def _read_slot(self, where: Slot) -> Content | None:
        """Return a slot's verified content, replay rows apart; a damaged one goes to quarantine, loudly.

        Raises:
            OSError: it cannot be read, which proves no damage.
        """
        try:
            return atomic_slot.read(where, self._disk)
        except CheckpointCorrupt as error:
            self._quarantine(where, error.message)
            return None

    def _quarantine(self, where: Slot, reason: str) -> None:
        """Move a damaged slot's files aside, with a copy of its rows: the segments stay, for others share them."""
        name = where.manifest_name.removesuffix(MANIFEST_SUFFIX)
        try:
            manifest = index.read_manifest(where.manifest_path, self._disk)
            paths = index.slot_files(where, self._disk)
            folder = index.put_in_quarantine(self.tree, name, paths, reason, self._disk)
        except OSError as error:
            self._warn(f"{reason} It could not be moved to quarantine: {error}.")
        else:
            self._warn(f"{reason} It was moved to {folder}.{self._keep_rows(manifest, folder)}")

    def _keep_rows(self, manifest: Manifest | None, folder: Path) -> str:
        if manifest is None or not manifest.segments:
            return ""
        try:
            rows = folder / self.tree.replay.name
            return " " + replay_files.keep_copy(self.tree.replay, manifest.segments, rows, self._disk)
        except (OSError, StorageError, UnsafePath) as error:
            return f" Its replay rows could not be copied: {error}."

    @property
    def _is_swapped(self) -> bool:
        """Whether a restore is just before its last rename, or was cut there."""
        return not self.tree.root.exists() and atomic_swap.ready(self.tree.root).is_dir()

    @property
    def _safe(self) -> str:
        return f"the checkpoints already in {self.tree.root} were not touched and still load"

    def _storage_errors(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return storage_errors(doing, safe=self._safe)


def find_latest_checkpoint(models_dir: Path | str, scenario: str) -> Checkpoint | None:
    """Return the checkpoint a training of `scenario` would resume from, every byte verified; None when there is none.

    For a damaged checkpoint the older one is returned, with a `RuntimeWarning`. Changes nothing; a training may go on
    meanwhile.

    Args:
        models_dir: the training tree, for example `validation_ch7/section_7_6_rl_performance/data/models`.
        scenario: for example `traffic_light_control`.

    Raises:
        CheckpointCorrupt: there are checkpoints and none of them verifies.
        StorageError: none can be read because the disk refuses.
        UnsafePath: `scenario` is not a safe file name.
    """
    return CheckpointStore(TrainingTree(Path(models_dir), scenario)).find_latest_checkpoint()
