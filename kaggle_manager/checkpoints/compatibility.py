"""Whether a checkpoint belongs to the experiment that is about to go on. Pure: two dictionaries in, a verdict out.

    REFUSE   the weights, the replay rows or their meaning would be wrong: algorithm, network, spaces, hyperparameters,
             environment, reward
    WARN     the training goes on and the difference is told: library versions, device, target, cadence, evaluation, and
             whatever else could not be compared because one side does not state it
    OK       everything that is known agrees

Promises: every difference is listed, with both values and what to do; what only one side states is a difference too; a
checkpoint that does not state what would be refused if it differed is refused.
Never does: take a missing value for an equal one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kaggle_manager.checkpoints.manifest import plain

ABSENT = "not stated"


class Level(IntEnum):
    """How much a difference matters; the highest decides."""

    OK = 0
    WARN = 1
    REFUSE = 2


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides. `str()` is the line to print."""

    field: str
    checkpoint: Any
    current: Any
    severity: Level
    what_to_do: str

    def __str__(self) -> str:
        return (
            f"{self.severity.name} {self.label}: checkpoint={shown(self.checkpoint)}, current={shown(self.current)}"
            f" - {self.what_to_do}"
        )

    @property
    def label(self) -> str:
        """The field as people call it."""
        return _LABELS.get(self.field, self.field.replace("_", " ").capitalize())


@dataclass(frozen=True)
class Verdict:
    """The decision, and every difference behind it, the grave ones first."""

    level: Level
    differences: tuple[Difference, ...]

    @property
    def refused(self) -> bool:
        """Whether the checkpoint must not be used."""
        return self.level is Level.REFUSE


_LABELS = {
    "policy_architecture": "Architecture",
    "observation_space_shape": "Observation space",
    "action_space_shape": "Action space",
    "n_envs": "Number of environments",
    "save_every": "Checkpoint cadence",
}

_GIVE_BACK = "give back the value it was trained with, or start again with --fresh (the old tree is archived)"
_SOURCES = "the sources changed: give back the old ones, or start again with --fresh (the old tree is archived)"

_REFUSED = dict.fromkeys(
    (
        *("section", "scenario", "algorithm", "policy", "policy_architecture", "n_envs"),
        *("observation_space", "observation_space_shape", "action_space", "action_space_shape"),
        *("environment", "environment_kwargs"),
    ),
    _GIVE_BACK,
) | dict.fromkeys(("environment_fingerprint", "reward_fingerprint"), _SOURCES)

_INPUTS = {
    "inputs": "train on the version it was trained with, or start again with --fresh (the old tree is archived)",
    "input_files": "its files are other ones than before: give those back, or start again with --fresh (the old tree "
    "is archived)",
}
"""Data of Kaggle that is read: the version of each, and a digest of its files."""

_ESSENTIAL = ("algorithm", "hyperparameters", "environment_fingerprint", "reward_fingerprint")
"""What a checkpoint has to state about itself; these can be known without importing the environment."""

_HARMLESS_HYPERPARAMETERS = {"device", "seed", "stats_window_size", "tensorboard_log", "verbose"}
_WARNED = "the training goes on; bit-exact continuation is no longer promised from this step"


def compare(checkpoint_identity: Mapping[str, Any], current_identity: Mapping[str, Any]) -> Verdict:
    """Compare what the checkpoint's manifest says of its experiment with the experiment at hand.

    Args:
        checkpoint_identity: `Manifest.identity`. `hyperparameters` and `versions` are compared entry by entry. A value
            of None means that this side does not know.
        current_identity: the same, now.
    """
    checkpoint_identity, current_identity = plain(checkpoint_identity), plain(current_identity)
    differences: list[Difference] = []
    for name in sorted({*checkpoint_identity, *current_identity, *_ESSENTIAL}):
        old, new = checkpoint_identity.get(name), current_identity.get(name)
        if name in _INPUTS:
            differences += _inputs(name, old or {}, new or {})
        elif isinstance(old, Mapping) and isinstance(new, Mapping) and name not in _REFUSED:
            differences += _entries(name, old, new)
        elif (difference := _difference(name, old, new)) is not None:
            differences.append(difference)
    differences.sort(key=lambda difference: (-difference.severity, difference.field))
    return Verdict(max((difference.severity for difference in differences), default=Level.OK), tuple(differences))


def _entries(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    found = []
    for key in sorted({*old, *new}):
        if _same(old.get(key), new.get(key)) and (key in old) == (key in new):
            continue
        matters = name == "hyperparameters" and key not in _HARMLESS_HYPERPARAMETERS
        severity, advice = (Level.REFUSE, _GIVE_BACK) if matters else (Level.WARN, _WARNED)
        if matters and key not in new:
            advice = "the checkpoint was trained with it: put it back into section.toml"
        elif matters and key not in old:
            advice = "the checkpoint was trained without it, by the library's default: take it out of section.toml"
        found.append(Difference(f"{name}.{key}", old.get(key, ABSENT), new.get(key, ABSENT), severity, advice))
    return found


def _inputs(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Each input that is another one. None is a version or are files that this side does not know."""
    found = []
    for key in sorted({*old, *new}):
        unstated = None if name == "input_files" else ABSENT
        before, now = old.get(key, unstated), new.get(key, unstated)
        if before != now and None not in (before, now):
            found.append(Difference(f"{name}.{key}", before, now, Level.REFUSE, _INPUTS[name]))
    return found


def _difference(name: str, old: Any, new: Any) -> Difference | None:
    if old is None and name in _ESSENTIAL:
        return Difference(
            name, ABSENT, ABSENT if new is None else new, Level.REFUSE, "nothing says that this checkpoint fits"
        )
    if _same(old, new):
        return None
    if old is None or new is None:
        old, new = (ABSENT if value is None else value for value in (old, new))
        return Difference(name, old, new, Level.WARN, "it could not be compared; make sure that it is the same")
    if name in _REFUSED or name == "hyperparameters":
        return Difference(name, old, new, Level.REFUSE, _REFUSED.get(name, _GIVE_BACK))
    return Difference(name, old, new, Level.WARN, _WARNED)


def _same(old: Any, new: Any) -> bool:
    """Compare as JSON would: a tuple is a list, and 1 is not true."""
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return set(old) == set(new) and all(_same(old[key], new[key]) for key in old)
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def shown(value: Any) -> str:
    """Return `value` as a line shows it, cut to 80 characters."""
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:77] + "..."
