"""What a trial has come to, read from its training tree: the newest value of its metric up to a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.protocol.metrics import FILE, LONGEST_LINE, parse_metric
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sections.sweep import REWARD
from kaggle_manager.trees.evaluations import read_evaluations


def score_of(config: RunConfig, metric: str, step: int) -> float | None:
    """The newest value that was told of `step` or an earlier one; None where there is none, or it is not finite."""
    told = [(at, value) for at, name, value in _told(config) if name == metric and at <= step]
    value = told[-1][1] if told else None
    return value if value is not None and math.isfinite(value) else None


def names_of(config: RunConfig) -> list[str]:
    """The metrics that it has told."""
    return sorted({name for _, name, _ in _told(config)})


def _told(config: RunConfig) -> Iterator[tuple[int, str, float]]:
    history = TrainingTree(config.tree, config.scenario_name).history
    if isinstance(config.scenario, ScriptScenario):
        yield from _lines(history / FILE)
        return
    try:
        for each in read_evaluations(history / "evaluations.npz"):
            yield each.step, REWARD, each.mean
    except CheckpointCorrupt:
        return


def _lines(path: Path) -> Iterator[tuple[int, str, float]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if told := parse_metric(line):
                yield told.step, told.name, told.value
