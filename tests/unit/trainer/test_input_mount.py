"""A session continues exactly what it was sent to continue, or leaves saying what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.checkpoints import Lineage, Manifest
from kaggle_manager.errors import ConfigError, LineageMismatch
from kaggle_manager.protocol.launch_order import LaunchOrder, read_order
from kaggle_manager.trainer.runtime.input_mount import check_lineage, find_mount

HEAD = Manifest(
    kind="latest",
    scenario="s",
    step=1000,
    target=3000,
    lineage=Lineage("run", 1, None, 0),
    bundle_sha256="",
    files=(),
)


def order(**changes: Any) -> LaunchOrder:
    parent = {"manifest_sha256": HEAD.sha256, "min_step": 1000, "dataset": "me/km-s-tree", **changes.pop("parent", {})}
    values = {"schema": LaunchOrder.SCHEMA, "run_id": "run", "generation": 2, "scenario": "s", "target": 3000}
    values |= {"section": "x", "section_folder": "sections/x", "bundle_sha256": "b" * 64}
    return read_order({**values, "parent": parent, **changes})


def test_the_right_parent_is_accepted() -> None:
    sent = order()
    assert sent.parent is not None
    check_lineage(sent, sent.parent, HEAD)
    assert sent.lineage == Lineage("run", 2, HEAD.sha256, 1000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_id": "other"}, "run: asked other, mounted run"),
        ({"generation": 1}, "session: this is 1, mounted is of 1"),
        ({"parent": {"min_step": 1001}}, "step: asked at least 1001, mounted 1000"),
        ({"parent": {"manifest_sha256": "a" * 64}}, "manifest: asked aaaaaaaaaaaa"),
    ],
)
def test_any_difference_ends_the_session_and_is_named(changes: dict[str, Any], said: str) -> None:
    sent = order(**changes)
    assert sent.parent is not None
    with pytest.raises(LineageMismatch, match=said):
        check_lineage(sent, sent.parent, HEAD)


def test_an_empty_mounted_tree_is_a_mismatch_not_a_first_run() -> None:
    sent = order()
    assert sent.parent is not None
    with pytest.raises(LineageMismatch, match="no checkpoint"):
        check_lineage(sent, sent.parent, None)


@pytest.mark.parametrize("layout", ["datasets/me/km-s-tree", "km-s-tree"])
def test_the_tree_is_found_in_either_layout_even_when_it_comes_late(tmp_path: Path, layout: str) -> None:
    parent = order().parent
    assert parent is not None
    time = [0.0]

    def sleep(seconds: float) -> None:
        time[0] += seconds
        if time[0] >= 100.0 and not (tmp_path / layout).exists():
            (tmp_path / layout).mkdir(parents=True)
            (tmp_path / layout / "training_tree.pack").touch()

    assert find_mount(tmp_path, parent, now=lambda: time[0], sleep=sleep) == tmp_path / layout


def test_waiting_ends_and_says_what_is_mounted_instead(tmp_path: Path) -> None:
    parent = order().parent
    assert parent is not None
    (tmp_path / "datasets" / "someone").mkdir(parents=True)
    time = [0.0]
    with pytest.raises(LineageMismatch, match=r"me/km-s-tree.*Mounted: datasets/someone"):
        find_mount(tmp_path, parent, now=lambda: time[0], sleep=lambda s: time.__setitem__(0, time[0] + s))
    assert 120.0 <= time[0] <= 121.0


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": LaunchOrder.SCHEMA - 1},
        {"schema": LaunchOrder.SCHEMA + 1},
        {"section_folder": "../elsewhere"},
        {"target": 0},
        {"generation": 0},
        {"run_id": None},
        {"parent": {"manifest_sha256": "../../etc"}},
        {"parent": {"dataset": "../x/../y"}},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        order(**changes)
