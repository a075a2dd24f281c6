"""Where a training with Stable-Baselines3 starts, and what a run remembers of itself from session to session."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from kaggle_manager.checkpoints import Manifest, TrainingTree
from kaggle_manager.errors import UPDATE, CheckpointIncompatible, UnsafePickle
from kaggle_manager.trainer.runtime.log_lines import warn as warn_in_log
from kaggle_manager.trainer.runtime.origin import Origin, find_origin
from kaggle_manager.trainer.sb3.env_probe import Exactness
from kaggle_manager.trainer.sb3.pickles import packed, read_plain

# Breaks of exactness kept beside the first one.
MOST_BREAKS = 19
STATE_SCHEMA = 4


@dataclass
class RunRecord:
    """What a run remembers of itself beyond the training's own state.

    Attributes:
        seed: given, or drawn when the run began.
        exactness: what the probe found when the run began; it stays, because the seeds of the episodes depend on it.
        arithmetic: fingerprint of the arithmetic the newest bits were computed with.
        broken: `{"step", "why"}` of each point from which bits are no longer those of an uninterrupted run; with
            `changed` where that was the user's wish: what was changed.
        target: timesteps the run was last asked for.
        unsaved: attributes of its model that change while it trains, and that no save holds.
    """

    seed: int
    exactness: Exactness
    arithmetic: dict[str, Any]
    target: int
    broken: list[dict[str, Any]] = field(default_factory=list)
    unsaved: list[str] = field(default_factory=list)

    def note_unsaved(self, names: list[str]) -> None:
        """What changes while training continues and is in no save is known from here on, and said once a session."""
        if new := [name for name in names if name not in self.unsaved]:
            self.unsaved = sorted({*self.unsaved, *new})
            warn_in_log(f"resumes of this training are not exact: none, because {_changes(self.unsaved)}. {_REMEDY}")

    def resumed_without(self, step: int) -> None:
        """The training continues from here, and what no save holds is what it was at the beginning."""
        if self.unsaved:
            self.break_at(step, _changes(self.unsaved))

    def break_at(self, step: int, why: str, *, changed: str = "") -> None:
        """From here on the bits are others, and it is said; the first break stays, what repeats is written once.

        Args:
            changed: what the user has changed on purpose; each time is written.
        """
        if all(known["why"] != why or (changed and known["step"] != step) for known in self.broken):
            self.broken.append({"step": step, "why": why} | ({"changed": changed} if changed else {}))
            del self.broken[1:-MOST_BREAKS]
        warn_in_log(f"from step {step} the bits are no longer those of an uninterrupted run: {why}.")

    def describe(self) -> dict[str, Any]:
        """JSON for manifests and metadata."""
        why = [self.exactness.reason, f"because {_changes(self.unsaved)}" if self.unsaved else ""]
        return {
            "exact": "none" if self.broken or self.unsaved else self.exactness.mode,
            "environment": self.exactness.mode,
            "reason": "; ".join(filter(None, why)),
            "unsaved": list(self.unsaved),
            "seed": self.seed,
            "broken": list(self.broken),
            "arithmetic": dict(self.arithmetic),
        }


def _changes(unsaved: list[str]) -> str:
    return f"{', '.join(unsaved)} change{'s' * (len(unsaved) == 1)} while it trains, and no save holds that"


_REMEDY = (
    "A class with state() and load_state(state) of its own, which return and take numbers, texts, arrays and "
    "containers of them, is saved with what they say."
)


@dataclass(frozen=True)
class ResumePoint(Origin):
    """The checkpoint to continue from with its state, or the reason to start from zero.

    Attributes:
        items: the state by name, as `pickles.packed` made it: what is not plain is not opened yet.
    """

    record: RunRecord | None = None
    items: dict[str, Any] = field(default_factory=dict)


def find_resume_point(
    tree: TrainingTree, *, fresh: bool, warn: Callable[[str], None], check: Callable[[Manifest], object]
) -> ResumePoint:
    """Bring the tree in order and find what to continue from, with its state; as `origin.find_origin`.

    Raises:
        UnsafePickle: its state asks for more than a state is made of.
        KaggleManagerError: as `find_origin`.
    """
    return resume_point_of(find_origin(tree, fresh=fresh, warn=warn, check=check))


def resume_point_of(origin: Origin) -> ResumePoint:
    """With the state of the checkpoint.

    Raises:
        UnsafePickle, CheckpointIncompatible: as `read_state`.
    """
    if origin.checkpoint is None:
        return ResumePoint(None, origin.reason)
    saved = read_state(origin.checkpoint.read("state"))
    return ResumePoint(origin.checkpoint, "", saved.record, saved.items)


@dataclass(frozen=True)
class SavedState:
    """What a `.state` file holds."""

    record: RunRecord
    items: dict[str, Any]


def read_state(data: bytes) -> SavedState:
    """Read a `.state` file whose bytes were verified; nothing that was pickled apart is opened.

    Raises:
        UnsafePickle: it asks for more than a state is made of; nothing of it was executed.
        CheckpointIncompatible: another version of the trainer wrote it.
    """
    try:
        saved = read_plain(data)
    except UnsafePickle as error:
        if "asks for kaggle_manager." not in error.message:
            raise
        raise _unreadable("cannot be opened; it") from error
    except Exception as error:  # what another version wrote raises all sorts
        raise _unreadable(f"cannot be opened ({error}); it") from error
    if not isinstance(saved, dict) or saved.get("schema") != STATE_SCHEMA:
        schema = saved.get("schema") if isinstance(saved, dict) else None
        if isinstance(schema, int) and schema > STATE_SCHEMA:
            raise CheckpointIncompatible(
                f"The checkpoint's state was written by a later version of kaggle-manager (schema {schema}; this "
                f"trainer reads {STATE_SCHEMA}).",
                safe="the checkpoint was not touched.",
                next_step=UPDATE,
            )
        raise _unreadable(f"has schema {schema}, and this trainer reads {STATE_SCHEMA}; it")
    try:
        record = json.loads(saved["record"])
        record["exactness"] = Exactness(**record["exactness"])
        return SavedState(RunRecord(**record), dict(saved["items"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"cannot be opened ({error}); it") from error


def _unreadable(what: str) -> CheckpointIncompatible:
    return CheckpointIncompatible(
        f"The checkpoint's state {what} was written by another version of kaggle-manager, such as an earlier "
        "development version.",
        safe="the checkpoint was not touched.",
        next_step="continue with the version that wrote it, or start again with --fresh.",
    )


def state_bytes(record: RunRecord, items: dict[str, Any]) -> bytes:
    """What goes into a checkpoint's `.state` file."""
    packed_items = {name: packed(value) for name, value in items.items()}
    saved = {"schema": STATE_SCHEMA, "record": json.dumps(asdict(record)), "items": packed_items}
    return pickle.dumps(saved, protocol=pickle.HIGHEST_PROTOCOL)
