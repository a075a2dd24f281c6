"""The three levels of checkpoints of one training tree: two latest, one best, one final.

Promises: once a save returned, that checkpoint is found again after any crash; after the second save two valid latest
checkpoints exist at every instant; the older is deleted only after the newer was read back from the disk and verified;
the best model is replaced only by a strictly better one; the final model is written once for its target.
Never does: resume from best; delete what did not verify (it goes to quarantine, with a warning); take a name or a
modification time for a fact; start from zero silently.

Looking and repairing are apart. `find_latest_checkpoint`, `valid_checkpoints`, `best` and `final` change nothing and
may be called while another process saves. `recover`, `claim_latest_checkpoint` and the saves are for the one process
that holds the tree (`tree_lock`): they alone put what is damaged into quarantine.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Required, TypedDict, Unpack

from kaggle_manager.checkpoints import atomic_slot, atomic_swap, index, recovery, replay_files, search
from kaggle_manager.checkpoints.atomic_io import Disk, ensure_free_space, own_folder, storage_errors
from kaggle_manager.checkpoints.atomic_slot import Content, Slot
from kaggle_manager.checkpoints.checkpoint import Checkpoint
from kaggle_manager.checkpoints.compatibility import is_another_task
from kaggle_manager.checkpoints.contents import Contents, Shared, committed_files
from kaggle_manager.checkpoints.layout import Kind, TrainingTree
from kaggle_manager.checkpoints.manifest import Lineage, Manifest, ReplayCommit
from kaggle_manager.checkpoints.quarantine import quarantine
from kaggle_manager.checkpoints.vouched import MADE_HERE, Vouched
from kaggle_manager.errors import CheckpointCorrupt, LineageMismatch

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


def python_warning(message: str) -> None:
    """Warn through Python's `warnings`: the default where the caller gives no other way."""
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
        warn: Callable[[str], None] = python_warning,
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
        files: Contents,
        replay: ReplayCommit | None = None,
        **facts: Unpack[Facts],
    ) -> Checkpoint:
        """Commit one latest checkpoint, verify it by reading it back, then delete what is older than the two newest.

        Saving a step again replaces that step's checkpoint.

        Args:
            step: environment steps trained so far, over all sessions.
            files: by role, see `layout.ROLES`; any other role is the path of a script's own file.
            replay: from `ReplayLog.write`, whose rows are durable when it returns.
            facts: `target`, `lineage` and `bundle_sha256`; where they are known `identity`, `certificate`, `exact` and
                `metrics`. See `Manifest`.

        Raises:
            LineageMismatch: the tree holds a later step than this one: it belongs to a training that went further.
            StorageError: the disk refused. The checkpoints that were there still load.
            CheckpointCorrupt: what was written does not read back. It is in quarantine; the older ones still load.
            UnsafePath: a role is no path of safe names.
        """
        manifest = self._manifest("latest", step, files, facts, replay)
        self._refuse_going_back(step)
        if self._vouched is not None:
            self._vouched.add([manifest], MADE_HERE)
        with self._storage_errors(f"Saving the checkpoint of step {step:,}"):
            checkpoint = self._commit(index.latest_slot(self.tree, step), manifest, files)
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
        found = search.search_beside_owner(self.tree, self._disk)
        if found.newest is None and search.is_swapped(self.tree):
            raise CheckpointCorrupt(
                f"A restore of {self.tree.root} was interrupted before its last step.",
                safe=f"the restored tree, which is whole, in {atomic_swap.ready(self.tree.root)}",
                next_step="run or train this again: that finishes the restore first",
            )
        for _, reason in found.refused if found.newest is not None else ():
            self._warn(reason)
        return self._checkpoint(search.chosen(found, self.tree, self._warn))

    def claim_latest_checkpoint(self) -> Checkpoint | None:
        """As `find_latest_checkpoint`, for the process that holds the tree: an interrupted restore is finished first.

        What is damaged or cannot be read is moved to quarantine with the reason and a warning, when an older checkpoint
        can be used: the saves to come would be behind it. Else everything stays where it is, and the next call says the
        same.

        Raises:
            CheckpointCorrupt, CheckpointIncompatible, StorageError: as `find_latest_checkpoint`.
        """
        if search.is_swapped(self.tree):
            with self._storage_errors("Finishing an interrupted restore"):
                atomic_swap.finish(self.tree.root, self._disk)
        found = search.search(self.tree, self._disk)
        for where, reason in found.refused if found.newest is not None else ():
            self._quarantine(where, reason)
        return self._checkpoint(search.chosen(found, self.tree, self._warn))

    def valid_checkpoints(self) -> list[Checkpoint]:
        """Return the latest checkpoints that verify, newest first. Changes nothing and warns of nothing.

        Raises:
            CheckpointIncompatible: another version of kaggle-manager wrote one.
        """
        found = search.valid(self.tree, self._disk)
        return [Checkpoint(content.manifest, self.tree, content.paths) for content in found]

    # ------------------------------------------------------------------------------------------------ best, final

    def save_best(
        self,
        *,
        score: float,
        step: int,
        files: Contents,
        **facts: Unpack[Facts],
    ) -> bool:
        """Replace the best model if `score` is strictly higher than its score; say whether it was.

        A score of another environment or reward, or one measured otherwise, is none to compare with. A score that is
        not finite never wins. The older best is gone only once the newer is committed.

        Args:
            files: by role, as for `save_latest`.

        Raises:
            StorageError: the disk refused. The best model that was there still loads.
            CheckpointCorrupt: what was written does not read back. It is in quarantine; that of before still loads.
        """
        current = self._own(index.best_slot(self.tree))
        if current is not None and is_another_task(current.manifest.identity, facts.get("identity", {})):
            current = None
        best_score = None if current is None else current.manifest.score
        if not math.isfinite(score) or (best_score is not None and score <= best_score):
            return False
        facts["metrics"] = {**facts.get("metrics", {}), "score": float(score)}
        manifest = self._manifest("best", step, files, facts)
        with self._storage_errors(f"Saving the best model, of step {step:,},"):
            self._commit(index.best_slot(self.tree), manifest, files)
        return True

    def best(self, of: Mapping[str, Any] | None = None) -> Checkpoint | None:
        """Return the best model of what is trained; None when there is none yet, or it is damaged, of which is warned.

        That of another environment or reward, from before a change that was accepted, is none, nor is one that was
        measured otherwise: its score says nothing of this one. It stays on the disk until one of this takes its place.
        Changes nothing.

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
        """Write the final model once.

        When a valid final model of this step or a later one is there, it is returned unchanged; one of an earlier step
        (the target was raised) is replaced.

        Args:
            files: by role, as for `save_latest`.

        Raises:
            StorageError: the disk refused. A final model that was there still loads.
            CheckpointCorrupt: what was written does not read back. It is in quarantine; that of before still loads.
        """
        current = self._own(index.final_slot(self.tree))
        if current is not None and current.step >= step:
            return current
        manifest = self._manifest("final", step, files, facts)
        with self._storage_errors("Saving the final model"):
            return self._commit(index.final_slot(self.tree), manifest, files)

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
            files=committed_files(kind, self.tree.scenario, step, contents),
            replay=replay,
            created_at=self._now(),
            **facts,
        )

    def _seen(self, where: Slot) -> Checkpoint | None:
        """A reader's view of a slot."""
        with self._storage_errors(f"Reading {where.manifest_name}"):
            try:
                return self._checkpoint(atomic_slot.look(where, self._disk))
            except CheckpointCorrupt as error:
                self._warn(error.message)
                return None

    def _own(self, where: Slot) -> Checkpoint | None:
        """An owner's view of a slot: what is damaged is put aside before anything takes its place."""
        with self._storage_errors(f"Reading {where.manifest_name}"):
            return self._checkpoint(self._read_slot(where))

    def _checkpoint(self, content: Content | None) -> Checkpoint | None:
        return None if content is None else Checkpoint(content.manifest, self.tree, content.paths)

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
        """Replace a slot's content by what reads back as it was written.

        Raises:
            CheckpointCorrupt: it does not; it is in quarantine, and the slot is as it was.
        """
        own_folder(self._disk, where.folder)
        linked = {role for role, one in contents.items() if isinstance(one, Shared) and one.is_kept_once}
        new = sum(file.size for file in manifest.files if file.role not in linked)
        ensure_free_space(where.folder, new + len(manifest.to_bytes()), safe=self._safe)
        try:
            content = atomic_slot.commit(where, manifest, contents, self._disk)
        except CheckpointCorrupt as error:
            self._quarantine(where, error.message, pending_alone=True)
            raise CheckpointCorrupt(
                f"{where.manifest_name} does not read back as it was written. {error.message}",
                safe=self._safe,
                next_step="check the disk",
            ) from error
        return Checkpoint(content.manifest, self.tree, content.paths)

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
        """Return a slot's verified content, replay rows apart; a damaged one goes to quarantine, with a warning.

        Raises:
            OSError: it cannot be read, which proves no damage.
        """
        try:
            return atomic_slot.read(where, self._disk)
        except CheckpointCorrupt as error:
            self._quarantine(where, error.message)
            return None

    def _quarantine(self, where: Slot, reason: str, *, pending_alone: bool = False) -> None:
        quarantine(self.tree, where, reason, self._disk, self._warn, pending_alone=pending_alone)

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
