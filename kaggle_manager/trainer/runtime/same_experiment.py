"""Whether a checkpoint is of the experiment that a session is to train, and what the user has changed on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kaggle_manager.checkpoints import Checkpoint, Verdict, compare
from kaggle_manager.checkpoints.sources import Sources
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.trainer.runtime.log_lines import warn


class Experiment(Protocol):
    """What a training says of itself: `sb3.TrainingConfig` and its like."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def sources(self) -> Sources: ...

    @property
    def accept_changes(self) -> bool: ...

    @property
    def accepted_files(self) -> Mapping[str, str] | None: ...

    @property
    def bundle_sha256(self) -> str: ...


def changed_on_purpose(config: Experiment, checkpoint: Checkpoint | None) -> str:
    """What of the environment and the reward the user has changed since, and accepts; '' for nothing."""
    if checkpoint is None or not config.accept_changes:
        return ""
    stated = {name: value for name, value in checkpoint.manifest.identity.items() if name in config.identity}
    return _verdict(checkpoint, stated, config.identity, config).accepted


def check_same_experiment(checkpoint: Checkpoint, identity: dict[str, Any], config: Experiment) -> str:
    """Tell every difference; return what of them the user accepts, '' for nothing.

    Raises:
        CheckpointIncompatible: it is of another one.
    """
    verdict = _verdict(checkpoint, checkpoint.manifest.identity, identity, config)
    if verdict.refused:
        on_purpose = ", or continue with the change, on purpose, with --accept-changes" * verdict.can_be_accepted
        raise CheckpointIncompatible(
            "\n".join(
                [f"The checkpoint of step {checkpoint.step} belongs to another experiment:"]
                + [f"  {difference}" for difference in verdict.differences]
            ),
            input_files=verdict.other_files,
            can_be_accepted=verdict.can_be_accepted,
            safe="the checkpoint was not touched.",
            next_step=f"restore what it was trained with, or start again with --fresh{on_purpose}.",
        )
    in_kernel = bool(config.bundle_sha256)  # whose manager has shown before the push what the user accepts
    for difference in verdict.differences:
        warn(difference.in_a_line if difference.accepted and in_kernel else difference.as_warning)
    return verdict.accepted


def _verdict(
    checkpoint: Checkpoint, stated: Mapping[str, Any], current: Mapping[str, Any], config: Experiment
) -> Verdict:
    return compare(
        stated,
        current,
        then=checkpoint.sources(),
        now=config.sources,
        accept_changes=config.accept_changes,
        accepted_files=config.accepted_files,
    )
