"""Two trainings side by side: what differs in configuration, environment, versions and results, in words.

Promises: every difference between what the two say of themselves is named, with both values; a value only one side
states is a difference. Everything is read from manifests and from the evaluation curve.
Never does: judge which experiment is right, or call two runs comparable: the differences say it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, Disk, Manifest, TrainingTree, index
from kaggle_manager.checkpoints.compatibility import ABSENT, SOURCE_FILES, shown
from kaggle_manager.checkpoints.sources import Sources, changed
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointCorrupt, ConfigError, NotFound
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.system.formatting import count
from kaggle_manager.trees.backups import find_copies
from kaggle_manager.trees.evaluations import Evaluation, read_evaluations
from kaggle_manager.trees.inspect import best_of, find_checkpoint, look_at, newest_of_run, nothing_yet

TOPICS = ("configuration", "environment", "versions", "results", "lineage")

_ENVIRONMENT = ("environment", "observation", "action", "reward", "study", "n_envs")
_FINGERPRINTS = {
    "environment_fingerprint": "the sources or arguments of the environment are not the same",
    "reward_fingerprint": "the sources of the reward are not the same",
    "study_fingerprint": "what was declared about judging the results is not the same",
}


@dataclass(frozen=True)
class TreeDifference:
    """One thing that is not the same.

    Attributes:
        topic: one of `TOPICS`.
        name: the field, e.g. `hyperparameters.learning_rate`.
        a, b: the value on each side; `not stated` when a side does not say.
        words: the difference as a sentence.
    """

    topic: str
    name: str
    a: Any
    b: Any
    words: str


@dataclass(frozen=True)
class Side:
    """What one training says of itself.

    Attributes:
        label: what to call it.
        manifest: of the checkpoint in question.
        best: of the best model, when there is one.
        curve: the evaluations, oldest first.
        problem: why there is no curve; "" where it was read.
        sources: what its environment and its reward were made of.
    """

    label: str
    manifest: Manifest
    best: Manifest | None = None
    curve: tuple[Evaluation, ...] = ()
    problem: str = ""
    sources: Sources = field(default_factory=dict)


def side_of(tree: TrainingTree, label: str, manifest: Manifest | None = None) -> Side:
    """A tree as one side, seen at `manifest`, else at its newest checkpoint.

    Raises:
        CheckpointNotFound: it has no checkpoint whose manifest can be read.
    """
    views = [view for view in look_at(tree, verify=False) if view.manifest is not None]
    if not views:
        raise nothing_yet(tree)
    order = {"latest": 0, "final": 1, "best": 2}
    newest = min(views, key=lambda view: order[view.level]).manifest
    chosen = manifest or newest
    assert chosen is not None
    best = best_of(views, chosen)
    curve: list[Evaluation] = []
    problem = ""
    try:
        points = read_evaluations(tree.history / "evaluations.npz")
        curve = [point for point in points if point.step <= chosen.step and math.isfinite(point.mean)]
    except CheckpointCorrupt as error:
        problem = error.message
    paths = {file.name: tree.folder(chosen.kind) / file.name for file in chosen.files}
    sources = Checkpoint(chosen, tree, paths).sources()
    return Side(label, chosen, best if best and best.step <= chosen.step else None, tuple(curve), problem, sources)


def compare_trees(a: TrainingTree, b: TrainingTree, *, labels: tuple[str, str] = ("a", "b")) -> list[TreeDifference]:
    """What differs between two training trees, each at its newest checkpoint. See `compare_sides`."""
    return compare_sides(side_of(a, labels[0]), side_of(b, labels[1]))


def compare_sides(a: Side, b: Side) -> list[TreeDifference]:
    """What differs, ordered by topic; empty when the two say the same of everything."""
    found = [*_settings(a, b), *_results(a, b), *_lineage(a, b)]
    return sorted(found, key=lambda difference: TOPICS.index(difference.topic))


def _settings(a: Side, b: Side) -> Iterator[TreeDifference]:
    said_a, said_b = _said(a.manifest), _said(b.manifest)
    stating = [side for side, said in ((a, said_a), (b, said_b)) if said["arithmetic"]]
    if len(stating) == 1:
        words = f"only {stating[0].label} states the arithmetic it was computed with"
        yield TreeDifference("versions", "arithmetic", said_a.pop("arithmetic"), said_b.pop("arithmetic"), words)
    for name, old, new in _unequal(said_a, said_b, ""):
        words = _FINGERPRINTS.get(name, "") if ABSENT not in (old, new) else ""
        if words and (files := changed(name, a.sources, b.sources)):
            words = f"{words}: {', '.join(files)}"
        words = words or f"{name} is {shown(old)} in {a.label} and {shown(new)} in {b.label}"
        yield TreeDifference(_topic(name), name, old, new, words)


def _said(manifest: Manifest) -> dict[str, Any]:
    """Everything a manifest says of its experiment; of the arithmetic, what the versions do not say already."""
    said = {**manifest.identity, "target": manifest.target}
    if "policy_kwargs" in said.get("hyperparameters", {}):
        said.pop("policy_architecture", None)  # said there
    said.pop(SOURCE_FILES, None)  # of which the fingerprints are made
    arithmetic, versions = manifest.exact.get("arithmetic", {}), said.get("versions", {})
    return {**said, "arithmetic": {name: value for name, value in arithmetic.items() if name not in versions}}


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Each entry that is not the same in both, with its name and its two values; groups are entered."""
    for name in sorted({*a, *b}):
        old, new = a.get(name, ABSENT), b.get(name, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _unequal(old, new, f"{prefix}{name}.")
        elif old != new:
            yield prefix + name, old, new


def _topic(name: str) -> str:
    if name.startswith(("versions.", "arithmetic.")):
        return "versions"
    return "environment" if name.startswith(_ENVIRONMENT) else "configuration"


def _results(a: Side, b: Side) -> Iterator[TreeDifference]:
    def difference(name: str, old: Any, new: Any, words: str) -> TreeDifference:
        return TreeDifference("results", name, old, new, words)

    step_a, step_b = a.manifest.step, b.manifest.step
    if step_a != step_b:
        further, by = (a, step_a - step_b) if step_a > step_b else (b, step_b - step_a)
        words = f"{further.label} is {count(by, 'step')} further ({step_a:,} and {step_b:,})"
        yield difference("step", step_a, step_b, words)
    best_a, best_b = (side.best.score if side.best else None for side in (a, b))
    if best_a is not None and best_b is not None and best_a != best_b:
        at = f"at step {a.best.step:,} and {b.best.step:,}" if a.best and b.best else ""
        yield difference("best_score", best_a, best_b, f"the best score is {_better(a, b, best_a, best_b)}, {at}")
    elif best_a != best_b:
        having, lacking = (a, b) if best_a is not None else (b, a)
        words = f"only {having.label} has a best model; {lacking.label} has none yet"
        yield difference("best_score", best_a, best_b, words)
    curves = {point.step: point for point in a.curve}, {point.step: point for point in b.curve}
    common = sorted({*curves[0]} & {*curves[1]})
    parted = [step for step in common if curves[0][step] != curves[1][step]]
    if a.problem or b.problem:
        left_out = [side for side in (a, b) if side.problem]
        words = " ".join(f"the evaluation curve of {side.label} is left out: {side.problem}" for side in left_out)
        yield difference("curve", a.problem or len(a.curve), b.problem or len(b.curve), words)
    elif parted:
        first, last = parted[0], parted[-1]
        ends = _better(a, b, curves[0][last].mean, curves[1][last].mean)
        words = f"the evaluation curves part at step {first:,}; at step {last:,} the mean return is {ends}"
        yield difference("curve", curves[0][last].mean, curves[1][last].mean, words)
    elif len(a.curve) != len(b.curve):
        until = f"agree up to step {common[-1]:,} and one continues" if common else "have no step in common"
        words = f"the evaluation curves {until} ({len(a.curve):,} and {len(b.curve):,} evaluations)"
        yield difference("curve", len(a.curve), len(b.curve), words)
    same = step_a == step_b and a.manifest.kind == b.manifest.kind == "latest"
    certificates = a.manifest.certificate, b.manifest.certificate
    if same and all(certificates) and certificates[0] != certificates[1]:
        words = f"at the same step {step_a:,} the two do not hold the same bits"
        yield difference("certificate", *certificates, words)


def _better(a: Side, b: Side, value_a: float, value_b: float) -> str:
    if value_a == value_b:
        return f"the same, {value_a:.6g}"
    better = a if value_a > value_b else b
    ahead = f"{better.label} better by {abs(value_a - value_b):.4g}"
    return f"{value_a:.6g} in {a.label} and {value_b:.6g} in {b.label} ({ahead})"


def _lineage(a: Side, b: Side) -> Iterator[TreeDifference]:
    old, new = a.manifest.lineage, b.manifest.lineage
    if old.run_id != new.run_id:
        words = f"they are of two runs: {old.run_id} and {new.run_id}"
        yield TreeDifference("lineage", "run_id", old.run_id, new.run_id, words)
    elif old.generation != new.generation:
        continues = a.manifest.sha256 == new.parent_sha256 or b.manifest.sha256 == old.parent_sha256
        words = f"of one run, sessions {old.generation} and {new.generation}"
        words += ": one continues the other directly" if continues else ""
        yield TreeDifference("lineage", "generation", old.generation, new.generation, words)


def find_side(name: str, config: RunConfig) -> Side:
    """What `name` means: `latest`, `best`, `final` or timesteps in the tree of `config`; a folder; or a run's id.

    Raises:
        NotFound: it is none of these, or nothing is left of the run.
        ConfigError: it is the beginning of several runs' ids.
    """
    own = TrainingTree(config.tree, config.scenario_name)
    if name in ("latest", "best", "final") or name.isdecimal():
        view = find_checkpoint(own, name)
        return side_of(own, name, view.manifest)
    if Path(name).is_dir():
        return side_of(tree_at(Path(name), config.scenario_name), "/".join(Path(name).resolve().parts[-2:]))
    return side_of(_tree_of_run(name, config), f"run {name[:8]}")


def tree_at(folder: Path, otherwise: str) -> TrainingTree:
    """The tree in a folder, of the scenario its manifests name."""
    slots = index.latest_slots(TrainingTree(folder, otherwise))
    found = (index.read_manifest(where.manifest_path, Disk()) for where in slots)
    return TrainingTree(folder, next((manifest.scenario for manifest in found if manifest), otherwise))


def _tree_of_run(name: str, config: RunConfig) -> TrainingTree:
    runs = _runs(config, name)
    if len(runs) > 1:
        raise ConfigError(f"{name!r} is the beginning of {len(runs)} runs: {', '.join(run.run_id for run in runs)}.")
    if not runs:
        raise NotFound(
            f"{name!r} is no checkpoint, no folder and no run in {config.journal}.",
            next_step="give latest, best, final, timesteps, the folder of a training tree, or a run's id",
        )
    (run,) = runs
    folders = [Path(run.tree), *(copy.folder for copy in find_copies(config))]
    for folder in folders:
        tree = TrainingTree(folder, run.scenario)
        if newest_of_run(tree, run.run_id):
            return tree
    raise NotFound(f"Nothing is left of run {run.run_id} in {config.state}.", next_step="name another run")


def _runs(config: RunConfig, beginning: str) -> list[RunRow]:
    if not config.journal.is_file():
        return []
    with closing(Journal.to_read(config.journal)) as journal:
        return [run for run in journal.runs() if run.run_id.startswith(beginning)]
