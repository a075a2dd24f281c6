"""Whether a checkpoint belongs to the experiment a run trains: their identities, compared as far as text can tell.

Never builds a model: the trainer compares the rest (spaces, library versions, device) before it loads anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, Verdict, compare
from kaggle_manager.checkpoints.compatibility import ACCEPTABLE
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible, InputMissing
from kaggle_manager.sections.identity import identity_of, sources_of
from kaggle_manager.sections.input_folders import find_inputs, identity_of_inputs
from kaggle_manager.sections.inputs import Input


def way_out(*, can_be_accepted: bool, again: str = "the same command") -> str:
    """What to do about a checkpoint of another experiment; `again` is the command that continues."""
    undo = f"undo the change and run {again} again, or add --fresh: it archives the tree with its replay and starts "
    on_purpose = (
        "; to continue with the change, on purpose, add --accept-changes: from there on it is another experiment"
    )
    return undo + "a new lineage from zero" + on_purpose * can_be_accepted


def current_identity(config: RunConfig) -> Mapping[str, Any]:
    """The section's file and the sources it names, fingerprinted.

    Raises:
        ConfigError: a source the section names is missing or cannot be read.
    """
    return identity_of(config.section, config.scenario_name, config.project_root, quick=config.quick, seed=config.seed)


def digest_of_changes(identity: Mapping[str, Any]) -> str:
    """Digest of all that --accept-changes is about, but for the files of inputs: see `compare`."""
    about = {name: identity.get(name) for name in ACCEPTABLE}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def verdict_on(checkpoint: Checkpoint, config: RunConfig, *, accept_changes: bool | None = None) -> Verdict:
    """Whether a checkpoint belongs to the experiment of `config`.

    Args:
        accept_changes: as `compare`; None: as the command was given.
    """
    # What the section leaves to a default only a built model knows: the trainer compares that.
    current = {name: value for name, value in current_identity(config).items() if value is not None}
    return compare(
        {name: value for name, value in checkpoint.manifest.identity.items() if name in current},
        current,
        then=checkpoint.sources(),
        now=sources_of(config.section, config.scenario_name, config.project_root),
        accept_changes=config.accept_changes if accept_changes is None else accept_changes,
    )


def check_inputs_here(
    checkpoint: Checkpoint, inputs: Sequence[Input], root: Path, *, safe: str, accepted_files: Mapping[str, str] | None
) -> None:
    """Refuse a checkpoint that was trained on other files of its inputs, as the session would.

    Args:
        inputs: with their versions; those that are not below `root` are left to the session.
        accepted_files: the files that the user has accepted; None: no change is accepted.

    Raises:
        CheckpointIncompatible: see there.
    """
    found: dict[str, Path] = {}
    for each in inputs:
        with suppress(InputMissing):
            found |= find_inputs(root, [each])
    stated = checkpoint.manifest.identity
    now = {name: {**(stated.get(name) or {}), **its} for name, its in identity_of_inputs(inputs, found).items()}
    verdict = compare(
        stated,
        {**stated, **now},
        accept_changes=accepted_files is not None,
        accepted_files=accepted_files,
    )
    if verdict.refused:
        raise CheckpointIncompatible(
            "\n  ".join(["The checkpoint is of another experiment:", *map(str, verdict.differences)]),
            input_files=verdict.other_files,
            can_be_accepted=verdict.can_be_accepted,
            safe=safe,
            next_step=way_out(can_be_accepted=verdict.can_be_accepted),
        )


def check(
    checkpoint: Checkpoint,
    config: RunConfig,
    *,
    safe: str,
    warn: Callable[[str], None],
    accept_changes: bool | None = None,
) -> Verdict:
    """Refuse a checkpoint of another experiment, and warn of every smaller difference.

    Raises:
        CheckpointIncompatible: with every difference, and what to do about each.
    """
    verdict = verdict_on(checkpoint, config, accept_changes=accept_changes)
    if verdict.refused:
        lines = [str(difference) for difference in verdict.differences]
        raise CheckpointIncompatible(
            "The checkpoint is of another experiment:\n  " + "\n  ".join(lines),
            safe=safe,
            next_step=way_out(can_be_accepted=verdict.can_be_accepted),
        )
    for difference in verdict.differences:
        warn(difference.as_warning)
    return verdict
