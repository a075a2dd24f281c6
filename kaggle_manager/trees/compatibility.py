"""Whether a checkpoint belongs to the experiment a run trains: their identities, compared as far as text can tell.

Never builds a model: the trainer compares the rest (spaces, library versions, device) before it loads anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kaggle_manager.checkpoints import Verdict, compare
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.sections.identity import identity_of

WAY_OUT = (
    "undo the change and run the same command again, or add --fresh: it archives the tree with its replay and starts "
    "a new lineage from zero"
)


def current_identity(config: RunConfig) -> Mapping[str, Any]:
    """The section's file and the sources it names, fingerprinted.

    Raises:
        ConfigError: a source the section names is missing or cannot be read.
    """
    return identity_of(config.section, config.scenario_name, config.project_root, quick=config.quick, seed=config.seed)


def verdict_on(checkpoint_identity: Mapping[str, Any], config: RunConfig) -> Verdict:
    """Whether a checkpoint with this identity belongs to the experiment of `config`."""
    # What the section leaves to a default only a built model knows: the trainer compares that.
    current = {name: value for name, value in current_identity(config).items() if value is not None}
    return compare({name: value for name, value in checkpoint_identity.items() if name in current}, current)


def check(checkpoint_identity: Mapping[str, Any], config: RunConfig, *, safe: str, warn: Callable[[str], None]) -> None:
    """Refuse a checkpoint of another experiment, and warn of every smaller difference.

    Raises:
        CheckpointIncompatible: with every difference, and what to do about each.
    """
    verdict = verdict_on(checkpoint_identity, config)
    lines = [str(difference) for difference in verdict.differences]
    if verdict.refused:
        raise CheckpointIncompatible(
            "The checkpoint is of another experiment:\n  " + "\n  ".join(lines),
            safe=safe,
            next_step=WAY_OUT,
        )
    for line in lines:
        warn(line)
