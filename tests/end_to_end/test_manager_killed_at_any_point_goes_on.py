"""`kill -9` of the manager anywhere, then the same command: the same model, one push a generation, no event lost.

Some points, in one run each way; `scripts/benchmarks/crash_every_step.py` takes all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from killed_manager import GENERATIONS, ONCE, Point, kill_at, left_by, points_of, wrong_with
from small_project import Bench

POINTS = {
    "run": [
        "0 journal: add_run #1 after",
        "0 journal: add_session #1 after",
        "1 HTTP: SaveKernel #1 after",
        "1 journal: note pushed #1 before",
        "1 HTTP: GET of a file #2 before",
        "1 journal: together in close_session #1 before",
        "1 HTTP: CreateDataset #1 after",
        "2 HTTP: SaveKernel #1 before",
        "2 journal: update_session ended #1 after",
        "2 disk: .ready becomes models #1 before",
        "2 disk: .ready becomes models #1 after",
        "2 journal: note submitted #1 before",
        "3 journal: note closed #1 after",
        "3 journal: note finished #1 before",
    ],
    "tick": [
        "0 HTTP: GetKernel #1 after",
        "1 HTTP: SaveKernel #1 after",
        "1 HTTP: ListKernelSessionOutput #1 after",
        "2 journal: together in _accepted #1 after",
        "2 disk: models becomes before_generation_2 #1 after",
        "3 journal: together in _finish #1 after",
    ],
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")]


@pytest.mark.parametrize("by", POINTS)
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(by: str, bench: Bench, tmp_path: Path) -> None:
    untouched = Bench(bench.project, tmp_path / "untouched", bench.server)
    come_to = points_of(untouched, by, tmp_path / "reached")
    expected = left_by(untouched)
    generations = tuple(range(1, GENERATIONS + 1))
    assert (expected.generations, expected.versions) == (generations, GENERATIONS)
    assert expected.events == {(kind, each): 1 for kind in ONCE for each in generations} | {("finished", 0): 1}
    asked = [Point.of(text) for text in POINTS[by]]
    assert set(asked) <= set(come_to), "every one of them is a point of a run"
    assert set(kill_at(bench, by, asked, tmp_path / "reached")) == set(asked)
    assert wrong_with(left_by(bench), expected) == []
