"""The learning curve of a training tree over all its sessions: evaluations and training episodes.

Promises: reads what Stable-Baselines3 wrote with the standard library alone; a file that is missing is an empty curve,
one that is damaged is a sentence in `problems`, and the others are still shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.dashboard.verification import Stamp, stamp
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.trees.curves import LARGEST, read_episodes, read_metrics
from kaggle_manager.trees.evaluations import Evaluation, read_evaluations

# More points than this cannot be told apart on a screen.
MOST_POINTS = 400
# Of a script; a page with more curves than this is not looked at.
MOST_METRICS = 8

Points = tuple[tuple[int, float], ...]

EVALUATIONS = "Mean return of the evaluations"


@dataclass(frozen=True)
class Curve:
    """What is known of how well a training does; steps count over all sessions.

    Attributes:
        evaluations: oldest first.
        episodes: how many training episodes there were.
        returns: (step, mean return of the episodes around it), thinned to what a screen can show.
        metrics: of a script: each of its metrics by name, as `returns`; the first ones that it told.
        tensorboard: folder with TensorBoard's event files (losses and more), which TensorBoard itself shows; "": none.
        problems: what could not be read, in sentences.
    """

    evaluations: tuple[Evaluation, ...] = ()
    episodes: int = 0
    returns: Points = ()
    metrics: tuple[tuple[str, Points], ...] = ()
    tensorboard: str = ""
    problems: tuple[str, ...] = ()

    @property
    def quantities(self) -> dict[str, Points]:
        """What it is compared with others by: the evaluations of an agent, each metric of a script."""
        evaluated = thinned([(point.step, point.mean) for point in self.evaluations])
        return ({EVALUATIONS: evaluated} if evaluated else {}) | dict(self.metrics)


class CurveReader:
    """Reads the curves of many trees, each again when one of its files has changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, bool], tuple[Stamp, Curve]] = {}

    def read(self, tree: TrainingTree, *, with_episodes: bool = True) -> Curve:
        """The curve of a tree, with its training episodes, of which there may be many, or without."""
        key, history = (tree.history, with_episodes), tree.history
        few = (history / name for name in ("evaluations.npz", "metrics.jsonl"))
        now, known = stamp(history.rglob("*") if with_episodes else few), self._known.get(key)
        if known is None or known[0] != now:
            known = self._known[key] = (now, read_curve(history, with_episodes=with_episodes))
        return known[1]


def read_curve(history: Path, *, with_episodes: bool = True) -> Curve:
    """The curve in the `history` folder of a training tree, with or without its training episodes."""
    evaluations: list[Evaluation] = []
    episodes: list[tuple[int, float]] = []
    problems = []
    try:
        found = read_evaluations(history / "evaluations.npz")
        evaluations = [point for point in found if abs(point.mean) < LARGEST and point.std < LARGEST]
    except CheckpointCorrupt as error:
        problems.append(error.message)
    try:
        episodes, skipped = read_episodes(history / "monitor.csv") if with_episodes else ([], 0)
        if skipped:
            problems.append(f"{skipped} lines of monitor.csv are not episodes and are left out.")
    except OSError as error:
        problems.append(f"monitor.csv cannot be read: {error.strerror or error}.")
    metrics: dict[str, list[tuple[int, float]]] = {}
    try:
        metrics = read_metrics(history / "metrics.jsonl", MOST_METRICS)
    except OSError as error:
        problems.append(f"metrics.jsonl cannot be read: {error.strerror or error}.")
    events = history / "tensorboard"
    return Curve(
        evaluations=tuple(evaluations),
        episodes=len(episodes),
        returns=thinned(episodes),
        metrics=tuple((name, thinned(points)) for name, points in metrics.items()),
        tensorboard=str(events) if any(events.glob("*tfevents*")) else "",
        problems=tuple(problems),
    )


def thinned(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> Points:
    """At most `most` points: each stands at the last step of its bucket, with the mean of its values."""
    size = max(1, math.ceil(len(points) / most))
    buckets = (points[begin : begin + size] for begin in range(0, len(points), size))
    return tuple((bucket[-1][0], math.fsum(value for _, value in bucket) / len(bucket)) for bucket in buckets)


def smoothed(points: Sequence[tuple[int, float]], window: int) -> Points:
    """The mean of each point and the `window - 1` before it."""
    found, total = [], 0.0
    for index, (step, value) in enumerate(points):
        total += value - (points[index - window][1] if index >= window else 0.0)
        found.append((step, total / min(index + 1, window)))
    return tuple(found)
