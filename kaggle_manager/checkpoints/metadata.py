"""training_metadata.json: a training at a glance, for its user and for other programs.

Promises: one schema, written atomically; a reader never sees half of it. The table below is the schema.
Never does: decide anything: steps, scores and identity are read from manifests. This file may be deleted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints.atomic_io import Disk, storage_errors, write_atomic
from kaggle_manager.checkpoints.manifest import plain
from kaggle_manager.checkpoints.sealed_json import check_schema
from kaggle_manager.errors import CheckpointCorrupt

SCHEMA = 2
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class TrainingMetadata:
    """The content of training_metadata.json.

    Args:
        scenario: the scenario trained.
        algorithm: for example "DQN".
        hyperparameters: as given to the algorithm.
        observation_space_shape: shape of one observation; for dictionary observations a shape for each key.
        action_space_shape: shape of one action; `[n]` for a discrete space of n actions.
        policy_architecture: units of the hidden layers.
        environment_fingerprint: digest of the environment's sources and arguments.
        reward_fingerprint: digest of the reward's sources.
        library_versions: name -> version, python included.
        device: where the networks were trained.
        timesteps_target: environment steps asked for.
        timesteps_done: environment steps done, over all sessions.
        training_seconds: wall time of all sessions, evaluations and saves included.
        evaluation_seconds: the part of it that evaluations took; null where it was not recorded.
        updated_at: ISO 8601 time in UTC of this writing.
        best_score: mean return of the best model in its evaluation; null before the first evaluation.
        best_step: the step of that model.
        resumed_from: `{"step", "manifest_sha256", "generation"}` of the checkpoint this session started from; null when
            it started from zero.
        strategy: how checkpoints are kept: cadence, levels, and that resuming is from latest.
        run_id: the run.
        generation: the session that wrote this.
        exact: how exact the last resume was, and why.
    """

    scenario: str
    algorithm: str
    hyperparameters: Mapping[str, Any]
    observation_space_shape: Any
    action_space_shape: Any
    policy_architecture: Any
    environment_fingerprint: str | None
    reward_fingerprint: str | None
    library_versions: Mapping[str, str]
    device: str
    timesteps_target: int
    timesteps_done: int
    training_seconds: float
    updated_at: str
    evaluation_seconds: float | None = None
    best_score: float | None = None
    best_step: int | None = None
    resumed_from: Mapping[str, Any] | None = None
    strategy: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    generation: int = 1
    exact: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the file's bytes: indented JSON with sorted keys; a number that is not finite becomes null."""
        body = {"schema": SCHEMA, **plain(dataclasses.asdict(self))}
        return (json.dumps(body, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_metadata(path: Path, metadata: TrainingMetadata, *, disk: Disk | None = None) -> None:
    """Write the file atomically.

    Raises:
        StorageError: the disk refused; the old file is whole.
    """
    disk = disk or Disk()
    with storage_errors("Writing the training metadata", safe="the checkpoints are not concerned"):
        disk.make_folder(path.parent)
        write_atomic(disk, path, metadata.to_bytes())


def read_metadata(path: Path) -> TrainingMetadata | None:
    """Read the file; None when there is none.

    Raises:
        CheckpointCorrupt: it cannot be read or understood.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
    """
    try:
        data = Disk().read(path)
        if len(data) > MAX_BYTES:
            raise ValueError(f"over {MAX_BYTES:,} bytes")
        body = json.loads(data)
        check_schema(body.pop("schema"), SCHEMA, str(path))
        return TrainingMetadata(**body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorrupt(
            f"{path} cannot be understood: {error}.",
            safe="the checkpoints are not concerned",
            next_step="delete the file: the next checkpoint writes it again",
        ) from error
