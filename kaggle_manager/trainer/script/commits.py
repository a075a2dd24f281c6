"""What becomes of a script's save: a checkpoint of the training tree, perhaps the best one, and at last the final one.

Promises: the step only grows; what the tree has already takes no room again; before a save it is counted what the tree
will hold, and what a platform would not keep is said or refused before it is written.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Disk, index, recovery
from kaggle_manager.checkpoints.contents import Content, Shared, entry_of
from kaggle_manager.checkpoints.layout import ROLES
from kaggle_manager.errors import CheckpointChanged, CheckpointCorrupt, NothingSaved, SavedBackwards, StorageError
from kaggle_manager.protocol.metrics import Metric
from kaggle_manager.sections.script import Best
from kaggle_manager.trainer.script import saves
from kaggle_manager.trainer.script.differences import listed
from kaggle_manager.trainer.script.saves import Save

_ROOM_BESIDE = 100_000_000
"""Bytes kept free for what else a session writes: its log, its result, its curves."""


@dataclass
class Commits:
    """Puts saves into a store.

    Attributes:
        store: of the training tree.
        scenario: its name.
        target: steps of the whole run.
        facts: what each manifest states, see `checkpoints.store.Facts`.
        sources: what the experiment is fingerprinted by, kept in each checkpoint; b"" for nothing.
        best: by which metric the best is chosen; None: as the script says, by a file `BEST`.
        kept_bytes: what the platform keeps of a session; None for all.
        newest: the newest checkpoint on disk.
        count: checkpoints of this session.
        seconds: the longest that one took.
    """

    store: CheckpointStore
    scenario: str
    target: int
    facts: dict[str, Any]
    sources: bytes
    best: Best | None
    warn: Callable[[str], None]
    kept_bytes: int | None
    newest: Checkpoint | None = None
    count: int = 0
    seconds: float = 0.0
    total_s: float = 0.0
    _told: set[str] = field(default_factory=set)

    def commit(self, save: Save, metric: Metric | None, training_seconds: float) -> Checkpoint:
        """Commit a save; as the best one as well, where it is.

        Args:
            metric: the value by which the best is chosen, as it was told with this save.

        Raises:
            ContractBroken: it is of an earlier step, empty, was changed after its rename, or has what cannot be kept.
            StorageError: the disk refused, or a platform would not keep it.
        """
        began = time.monotonic()
        self._refuse_going_back(save)
        best = self._best_on_disk()
        known = dict(saves.shared_of(best, self.newest))
        contents = saves.contents_of(save, self.scenario, known)
        if not contents:
            raise NothingSaved(
                f"The script's checkpoint of step {save.step:,} is an empty folder.",
                safe=self._safe,
                next_step="write the files into <step>.tmp before it is renamed to <step>",
            )
        if "not kept" not in self._told and (left_out := saves.not_kept(save)):
            self._told.add("not kept")
            self.warn(
                f"a checkpoint is kept as files and their bytes; not kept of step {save.step:,}: {listed(left_out)}"
            )
        too_much = self._make_room(save, contents, best)
        metrics: dict[str, Any] = {"training_seconds": round(training_seconds, 3)}
        if metric is not None:
            metrics |= {"metric": metric.name, "value": metric.value}
        own = {"sources": self.sources} if self.sources else {}
        try:
            checkpoint = self.store.save_latest(
                step=save.step, files={**contents, **own}, metrics=metrics, **self.facts
            )
        except CheckpointCorrupt as error:
            raise saves.changed(save.step, error.message) from error
        self.newest = checkpoint
        self.count += 1
        if (score := self.score(save, metric)) is not None:
            self.store.save_best(
                score=score, step=save.step, files=_own_files(checkpoint), metrics=metrics, **self.facts
            )
        if too_much:
            self.drop_older()
        self.seconds = max(self.seconds, spent := time.monotonic() - began)
        self.total_s += spent
        return checkpoint

    def finish(self) -> Checkpoint | None:
        """Write the final checkpoint, of the newest one, where that has reached the target."""
        newest = self.newest
        if newest is None or newest.step < self.target:
            return None
        return self.store.save_final(step=newest.step, files=_own_files(newest), **self.facts)

    def score(self, save: Save, metric: Metric | None) -> float | None:
        """A number that is larger for a better checkpoint; None: it is no candidate."""
        if self.best is None:
            return float(save.step) if save.is_best else None
        if metric is None:
            return None
        return metric.value if self.best.mode == "max" else -metric.value

    def _best_on_disk(self) -> Checkpoint | None:
        return self.store.best(self.facts.get("identity", {}))

    def _refuse_going_back(self, save: Save) -> None:
        newest = self.newest
        if newest is None or save.step > newest.step:
            return
        if save.step < newest.step:
            raise SavedBackwards(
                f"The script saved step {save.step:,} after step {newest.step:,}.",
                safe=f"{self._safe}; this one was not kept",
                next_step="count on from KM_SESSION_STEP: the step only grows, over all sessions",
            )
        if missing := saves.names_in(newest) - saves.names_of(save):
            raise CheckpointChanged(
                f"The script wrote into its checkpoint of step {save.step:,} after it had been committed: a second "
                f"folder of that step is there, without {', '.join(sorted(missing)[:5])}.",
                safe=self._safe,
                next_step="write everything into <step>.tmp, and rename that folder last",
            )

    def _make_room(self, save: Save, contents: dict[str, Content], best: Checkpoint | None) -> bool:
        """Count what the tree will hold; say whether that is too much for two latest checkpoints.

        Raises:
            StorageError: also without it.
        """
        kept = math.inf if self.kept_bytes is None else self.kept_bytes
        new = sum(entry_of(role, content).size for role, content in contents.items())
        to_write = sum(entry_of(role, each).size for role, each in contents.items() if not isinstance(each, Shared))
        is_last = save.step >= self.target
        # Each counts whole: nobody promises that a platform knows of files that are one.
        of_best = new if self.best or save.is_best else 0
        least = new * (2 if is_last else 1) + (best.manifest.size if best else of_best)
        most = least + (self.newest.manifest.size if self.newest else new)
        tree = self.store.tree
        if "size" not in self._told:
            self._told.add("size")
            if most > kept / 2:
                self.warn(
                    f"a checkpoint takes {new / 1e9:.2f} GB; with two of them, the best and the final one the training "
                    f"tree will hold up to {(4 * new) / 1e9:.1f} of the {kept / 1e9:.0f} GB a session may leave"
                )
        if least + _ROOM_BESIDE > kept:
            raise StorageError(
                f"A checkpoint of {new / 1e9:.2f} GB does not fit: with the best one{' and the final one' * is_last} "
                f"the output would hold {least / 1e9:.1f} GB, and a session may leave {kept / 1e9:.0f} GB.",
                safe=self._safe,
                next_step="save less (half precision, no copy of what can be downloaded again)",
            )
        too_much = most + _ROOM_BESIDE > kept
        lacks_room = shutil.disk_usage(tree.root if tree.root.exists() else tree.root.parent).free < to_write
        if (too_much or lacks_room) and "one" not in self._told and self.newest is not None:
            self._told.add("one")
            self.warn("there is no room for two latest checkpoints beside the best one: one of them is kept")
        if too_much or lacks_room:
            self.drop_older()
        return too_much

    def drop_older(self) -> None:
        """Keep one latest checkpoint."""
        for where, _ in index.read_index(self.store.tree, Disk()).newest_first[1:]:
            recovery.delete_slot(where, Disk())

    @property
    def _safe(self) -> str:
        return f"the checkpoint of step {self.newest.step:,}" if self.newest else "nothing had been saved before"


def _own_files(checkpoint: Checkpoint) -> dict[str, Content]:
    return {file.role: checkpoint.shared(file.role) for file in checkpoint.manifest.files if file.role not in ROLES}
