"""Whether a checkpoint belongs to the experiment that is about to go on. Pure: two dictionaries in, a verdict out.

    REFUSE   the weights, the replay rows or their meaning would be wrong: algorithm, network, spaces, hyperparameters,
             environment, reward
    WARN     the training continues and the difference is told: library versions, device, target, cadence, evaluation, a
             change of the environment or the reward that the user accepts, a file that is named since and not known to
             have changed, and whatever else could not be compared because one side does not state it
    OK       everything that is known agrees

Promises: every difference is listed, with both values or the changed lines and what to do; what only one side states
is a difference too; a checkpoint that does not state what would be refused if it differed is refused.
Never does: take a missing value for an equal one.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from kaggle_manager.checkpoints import sources
from kaggle_manager.checkpoints.manifest import plain
from kaggle_manager.checkpoints.sources import Sources

ABSENT = "not stated"
_SHOWN = 80
_MOST = 5


class Level(IntEnum):
    """How much a difference matters; the highest decides."""

    OK = 0
    WARN = 1
    REFUSE = 2


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides. `str()` is what to print, mostly one line.

    Attributes:
        files: the sources that were changed, of a fingerprint whose sources are known.
        lines: how.
        accepted: the user accepts it.
        is_named_since: it is no change that is known: the section names `files` now, and did not then.
    """

    field: str
    checkpoint: Any
    current: Any
    severity: Level
    what_to_do: str
    files: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    accepted: bool = False
    is_named_since: bool = False

    def __str__(self) -> str:
        return f"{self.severity.name} {self.as_warning}"

    @property
    def as_warning(self) -> str:
        """As `str()`, where what shows it says already that it is a warning."""
        return "\n    ".join([self.in_a_line, *self.lines])

    @property
    def in_a_line(self) -> str:
        """As `as_warning`, without how the sources have changed."""
        return f"{self.label}: {self.said} - {self.what_to_do}"

    @property
    def said(self) -> str:
        """What is not the same: both values, or the files of a fingerprint, whose values say nothing to anyone."""
        if self.is_named_since:
            return f"{', '.join(self.files)} newly named"
        if self.field in _FINGERPRINTS and ABSENT not in (self.checkpoint, self.current):
            return f"{', '.join(self.files)} changed" if self.files else "changed; what it was is not kept"
        if self.field.startswith("inputs.") and ABSENT in (self.checkpoint, self.current):
            return "it was trained without it" if self.checkpoint == ABSENT else "section.toml names it no longer"
        if self.field.partition(".")[0] == "input_files":  # two digests, which say nothing to anyone either
            return "its files are other ones than before, by their names or sizes"
        pairs = [("", self.checkpoint, self.current)]
        if max(len(str(self.checkpoint)), len(str(self.current))) > _SHOWN:  # where it is not the same
            pairs = list(_differing(self.checkpoint, self.current))
        said = [f"{place}checkpoint={shown(old)}, current={shown(new)}" for place, old, new in pairs[:_MOST]]
        return "; ".join([*said, *(["..."] if len(pairs) > _MOST else [])])

    @property
    def may_be_wanted(self) -> bool:
        """Whether a user can have changed it on purpose; what a checkpoint does not say of itself is no change."""
        is_known = self.field not in _ESSENTIAL or ABSENT not in (self.checkpoint, self.current)
        return self.field.partition(".")[0] in ACCEPTABLE and is_known

    @property
    def what(self) -> str:
        """What is not the same, in a word or two."""
        return ", ".join(self.files) or self.label[0].lower() + self.label[1:]

    @property
    def label(self) -> str:
        """The field as people call it."""
        group, _, name = self.field.partition(".")
        if group in _INPUTS:
            return f"Input {name}"
        said = _LABELS.get(group, group.replace("_", " ").capitalize())
        return f"{said}.{name}" if name else said


@dataclass(frozen=True)
class Verdict:
    """The decision, and every difference behind it, the grave ones first."""

    level: Level
    differences: tuple[Difference, ...]

    @property
    def refused(self) -> bool:
        """Whether the checkpoint must not be used."""
        return self.level is Level.REFUSE

    @property
    def can_be_accepted(self) -> bool:
        """Whether all that refuses it is a change that a user may make on purpose."""
        return self.refused and all(each.may_be_wanted for each in self.differences if each.severity is Level.REFUSE)

    @property
    def other_files(self) -> dict[str, str]:
        """Digests of the files of inputs that refuse it, by the input's name: of what a user may accept."""
        refused = [each for each in self.differences if each.severity is Level.REFUSE]
        return {each.field.partition(".")[2]: each.current for each in refused if each.field.startswith("input_files.")}

    @property
    def accepted(self) -> str:
        """What the user has accepted, such as "environment.py, reward.py"; '' for nothing."""
        return ", ".join(dict.fromkeys(each.what for each in self.differences if each.accepted))


_LABELS = {
    "policy_architecture": "Architecture",
    "observation_space_shape": "Observation space",
    "action_space_shape": "Action space",
    "n_envs": "Number of environments",
    "save_every": "Checkpoint cadence",
    "environment_fingerprint": "Sources of the environment",
    "reward_fingerprint": "Sources of the reward",
    "script_fingerprint": "Sources of the script",
    "study_fingerprint": "Study",
}

_FINGERPRINTS = ("environment_fingerprint", "reward_fingerprint", "script_fingerprint", "study_fingerprint")
MADE_BY_BUILD = "made_by_build"
"""Hyperparameters and wrappers of what a function of the user's has made, whose code may be changed on purpose."""
ACCEPTABLE = (
    *("environment", "environment_kwargs", "environment_fingerprint", "reward_fingerprint", "env_wrapper"),
    *("eval_env_kwargs", "inputs", "input_files", "script", "arguments", "script_fingerprint", MADE_BY_BUILD),
)
"""What a user may change on purpose in the middle of a training: the spaces are compared apart."""

_GIVE_BACK = "restore the value it was trained with, or start again with --fresh (the old tree is archived)"
_SOURCES = "restore the old sources, or start again with --fresh (the old tree is archived)"
_ACCEPTED = "accepted: the training continues with the change; bit-exact continuation ends at this step"

_OF_THE_ENVIRONMENT = ("environment", "environment_kwargs", "eval_env_kwargs", "env_wrapper")
_REFUSED = dict.fromkeys(
    (
        *("section", "scenario", "algorithm", "policy", "policy_architecture", "n_envs"),
        *("observation_space", "observation_space_shape", "action_space", "action_space_shape"),
        *(*_OF_THE_ENVIRONMENT, "vec_env_wrapper", "normalize", "frame_stack", "noise", "callbacks", "build"),
        *("script", "arguments"),
    ),
    _GIVE_BACK,
) | dict.fromkeys(("environment_fingerprint", "reward_fingerprint", "script_fingerprint"), _SOURCES)

_INPUTS = {
    "inputs": "train on the version it was trained with, or start again with --fresh (the old tree is archived)",
    "input_files": "give those back, or start again with --fresh (the old tree is archived)",
}
"""Data of a platform that is read: the version of each, and a digest of its files."""
_NEW_INPUT = "take it out of section.toml, or start again with --fresh (the old tree is archived)"
_NO_INPUT = "name it there again, or start again with --fresh (the old tree is archived)"

SOURCE_FILES = "source_files"
"""By fingerprint, and for what no fingerprint is made of: file -> digest of its meaning."""
_NAMED_SINCE = "it is not known to have changed, and from now on a change of it is noticed"

_OF_AGENTS = ("algorithm", "hyperparameters", "environment_fingerprint", "reward_fingerprint")
_OF_SCRIPTS = ("script", "script_fingerprint")
_ESSENTIAL = (*_OF_AGENTS, *_OF_SCRIPTS)
"""What a checkpoint of either kind has to state about itself; these can be known without running anything of it."""

_HYPERPARAMETERS = ("hyperparameters", MADE_BY_BUILD)
HARMLESS_HYPERPARAMETERS = {"device", "seed", "stats_window_size", "tensorboard_log", "verbose"}
_UNKNOWN = "it could not be compared; make sure that it is the same"
_WARNED = "the training continues; bit-exact continuation is no longer promised from this step"
_MEASURED_ANEW = "the training continues; scores measured otherwise are none to beat, so the best model is chosen anew"


def compare(
    checkpoint_identity: Mapping[str, Any],
    current_identity: Mapping[str, Any],
    *,
    then: Sources | None = None,
    now: Sources | None = None,
    accept_changes: bool = False,
    accepted_files: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare what the checkpoint's manifest says of its experiment with the experiment at hand.

    Args:
        checkpoint_identity: `Manifest.identity`. `hyperparameters` and `versions` are compared entry by entry. A value
            of None means that this side does not know.
        current_identity: the same, now.
        then, now: the sources on both sides, by which a change is shown.
        accept_changes: the environment and the reward were changed on purpose (`ACCEPTABLE`).
        accepted_files: of the files of inputs only these are accepted with it, each the digest that the user was told
            of; None: any, where the user is told at this very moment.
    """
    checkpoint_identity, current_identity = plain(checkpoint_identity), plain(current_identity)
    differences: list[Difference] = []
    essential = _OF_SCRIPTS if "script" in current_identity else _OF_AGENTS
    for name in sorted({*checkpoint_identity, *current_identity, *essential}):
        old, new = checkpoint_identity.get(name), current_identity.get(name)
        if name == SOURCE_FILES:  # by which a fingerprint that differs is explained
            continue
        if files := _named_since(name, checkpoint_identity, current_identity):
            since = Difference(name, old, new, Level.WARN, _NAMED_SINCE, tuple(files), is_named_since=True)
            differences.append(since)
        elif name in _INPUTS:
            differences += _inputs(name, old or {}, new or {})
        elif isinstance(old, Mapping) and isinstance(new, Mapping) and name not in _REFUSED:
            differences += _entries(name, old, new)
        elif (difference := _difference(name, old, new, essential)) is not None:
            differences.append(difference)
    differences = list(_explained(differences, then or {}, now or {}))
    if accept_changes:
        # Another version of an input, which is accepted, has files of its own.
        versions = {each.field.partition(".")[2] for each in differences if each.field.startswith("inputs.")}
        differences = [
            _accepted(each) if accepted_files is None or _was_told(each, versions, accepted_files) else each
            for each in differences
        ]
    differences.sort(key=lambda difference: (-difference.severity, difference.field))
    return Verdict(max((difference.severity for difference in differences), default=Level.OK), tuple(differences))


def is_another_task(stated: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether a score of the one says nothing beside a score of the other: environment, reward or inputs changed.

    Or how it is measured: by how many episodes, and by which actions.
    """
    found = compare(stated, current).differences
    return any(
        each.may_be_wanted if each.severity is Level.REFUSE else each.field.startswith("evaluation.") for each in found
    )


def _explained(differences: Sequence[Difference], then: Sources, now: Sources) -> Iterator[Difference]:
    """With what has changed in the sources; a file that belongs to two fingerprints is shown once."""
    fields, told = {each.field for each in differences}, set[str]()
    for each in differences:
        if each.field not in _FINGERPRINTS or each.is_named_since or ABSENT in (each.checkpoint, each.current):
            yield each
            continue
        files = sources.changed(each.field, then, now)
        if not files and each.field in then and fields & {"environment", "environment_kwargs"}:
            continue  # that is all: it is of the arguments as well, which have a line of their own
        lines = [line for name in files if name not in told for line in sources.difference(each.field, name, then, now)]
        told.update(files)
        yield replace(each, files=tuple(files), lines=tuple(sources.bounded(lines)))


def _named_since(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The files whose names alone make a fingerprint another one: none of them is known to have changed."""
    if name not in _REFUSED or not name.endswith("_fingerprint") or _same(then.get(name), now.get(name)):
        return []
    stated = then.get(SOURCE_FILES) or {}
    old, new = stated.get(name), (now.get(SOURCE_FILES) or {}).get(name)
    if old is None or new is None or not all(_same(then.get(key), now.get(key)) for key in _OF_THE_ENVIRONMENT):
        return []
    known = {file: digest for files in stated.values() for file, digest in files.items()} | old
    is_same = {*old} <= {*new} and all(known.get(file, digest) == digest for file, digest in new.items())
    return sorted({*new} - {*old}) if is_same else []


def _was_told(difference: Difference, versions: Container[str], accepted_files: Mapping[str, str]) -> bool:
    group, _, name = difference.field.partition(".")
    return group != "input_files" or name in versions or accepted_files.get(name) == difference.current


def _accepted(difference: Difference) -> Difference:
    if difference.severity is not Level.REFUSE or not difference.may_be_wanted:
        return difference
    return replace(difference, severity=Level.WARN, what_to_do=_ACCEPTED, accepted=True)


def _entries(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    found = []
    for key in sorted({*old, *new}):
        if _same(old.get(key), new.get(key)) and (key in old) == (key in new):
            continue
        matters = name in _HYPERPARAMETERS and key not in HARMLESS_HYPERPARAMETERS
        severity, advice = (Level.REFUSE, _GIVE_BACK) if matters else (Level.WARN, _WARNED)
        if name == "evaluation":
            advice = _MEASURED_ANEW
        if name == MADE_BY_BUILD and not (key in old and key in new):  # another version of its class has it
            severity, advice = Level.WARN, _UNKNOWN
        elif matters and key not in new:
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
        is_comparable = None not in (before, now) or ABSENT in (before, now)
        if before != now and is_comparable:
            advice = _NEW_INPUT if before == ABSENT else _NO_INPUT if now == ABSENT else _INPUTS[name]
            found.append(Difference(f"{name}.{key}", before, now, Level.REFUSE, advice))
    return found


def _difference(name: str, old: Any, new: Any, essential: Sequence[str]) -> Difference | None:
    if old is None and name in essential:
        return Difference(
            name, ABSENT, ABSENT if new is None else new, Level.REFUSE, "nothing says that this checkpoint fits"
        )
    if _same(old, new):
        return None
    if name == "seed" and old is not None:
        own = "" if new is None else f"; for one of its own with seed {new}: give that back, and add --seed {new}"
        keeps = f"this training keeps its seed {old}, whatever section.toml says{own}"
        return Difference(name, old, ABSENT if new is None else new, Level.WARN, keeps)
    if old is None or new is None:
        old, new = (ABSENT if value is None else value for value in (old, new))
        return Difference(name, old, new, Level.WARN, _UNKNOWN)
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
    """Return `value` as a line shows it, cut."""
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _differing(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The parts that are not the same, innermost, each after its place."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted({*old, *new}, key=str)]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(number, *pair) for number, pair in enumerate(zip(old, new, strict=True))]
    else:
        yield f"{place}: " if place else "", old, new
        return
    for key, before, now in pairs:
        if not _same(before, now):
            yield from _differing(before, now, f"{place}.{key}" if place else str(key))
