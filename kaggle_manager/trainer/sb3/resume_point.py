"""Where a training starts: from the newest checkpoint, or from zero because there is nothing or because it was asked.

Never from the best model, and never from zero in silence.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree, archive_tree
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.sb3 import host_pickle
from kaggle_manager.trainer.sb3.env_probe import Exactness

STATE_SCHEMA = 2


@dataclass
class RunRecord:
    """What a run remembers of itself beyond the training's own state.

    Attributes:
        seed: given, or drawn when the run began.
        exactness: what the probe found when the run began; it stays, because the seeds of the episodes depend on it.
        arithmetic: fingerprint of the arithmetic the newest bits were computed with.
        broken: `{"step", "why"}` of each point from which bits are no longer those of an uninterrupted run.
        target: timesteps the run was last asked for.
    """

    seed: int
    exactness: Exactness
    arithmetic: dict[str, Any]
    target: int
    broken: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """JSON for manifests and metadata."""
        return {
            "exact": self.exactness.mode if not self.broken else "none",
            "environment": self.exactness.mode,
            "reason": self.exactness.reason,
            "seed": self.seed,
            "broken": list(self.broken),
            "arithmetic": dict(self.arithmetic),
        }


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint to continue from with its unpickled state, or the reason to start from zero."""

    checkpoint: Checkpoint | None
    reason: str
    record: RunRecord | None = None
    items: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.step


def find_resume_point(tree: TrainingTree, *, fresh: bool, warn: Callable[[str], None]) -> ResumePoint:
    """Bring the tree in order and find what to continue from.

    With `fresh` a tree that is there is moved aside, never deleted.

    Raises:
        CheckpointCorrupt: there are checkpoints and none verifies.
        CheckpointIncompatible: the newest was written by another version of the trainer.
        StorageError: the disk refused.
    """
    if fresh:
        if not tree.root.is_dir() or not any(tree.root.iterdir()):
            return ResumePoint(None, "--fresh was given")
        archive = tree.root.with_name(f"{tree.root.name}_archived")
        kept = archive_tree(tree, archive, "A training of the same scenario was started again with --fresh.")
        return ResumePoint(None, f"--fresh was given; the earlier tree is now {kept}")
    store = CheckpointStore(tree, warn=warn)
    store.recover()
    checkpoint = store.find_latest_checkpoint()
    if checkpoint is None:
        return ResumePoint(None, f"there is no checkpoint in {tree.checkpoints}")
    # Unpickled only now that its sha256 is known to be the one in the manifest.
    saved = read_state(checkpoint.read_state())
    return ResumePoint(checkpoint, "", saved.record, saved.items)


@dataclass(frozen=True)
class SavedState:
    """What a `.state` file holds."""

    record: RunRecord
    items: dict[str, Any]


def read_state(data: bytes) -> SavedState:
    """Unpickle a `.state` file whose bytes were verified.

    Raises:
        CheckpointIncompatible: another version of the trainer wrote it.
    """
    try:
        saved = pickle.loads(data)
    except (ModuleNotFoundError, AttributeError) as error:
        raise _unreadable(f"cannot be opened ({error}); it") from error
    if saved.get("schema") != STATE_SCHEMA:
        raise _unreadable(f"has schema {saved.get('schema')}, and this trainer reads {STATE_SCHEMA}; it")
    return SavedState(saved["record"], saved["items"])


def _unreadable(what: str) -> CheckpointIncompatible:
    return CheckpointIncompatible(
        f"The checkpoint's state {what} was written by another version of kaggle-manager, such as an earlier "
        "development version.",
        safe="the checkpoint was not touched.",
        next_step="continue with the version that wrote it, or start again with --fresh.",
    )


def state_bytes(record: RunRecord, items: dict[str, Any]) -> bytes:
    """What goes into a checkpoint's `.state` file."""
    saved = {"schema": STATE_SCHEMA, "record": record, "items": items}
    return host_pickle.dumps(saved)
