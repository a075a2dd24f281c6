"""What a tracker is told of a run comes from what was verified, and what was told once is never told otherwise."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_trees import config_in
from tracked_world import RUN, STEPS, begin, grow

from kaggle_manager.config import RunConfig
from kaggle_manager.errors import NotFound
from kaggle_manager.integrations.tracked import EPISODES, EVALUATIONS, TrackedRun, in_windows, tracked_run, window_end
from kaggle_manager.runs.journal import Journal


def seen(config: RunConfig) -> TrackedRun:
    with closing(Journal.to_read(config.journal)) as journal:
        return tracked_run(config, journal, 1.8e9)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.floats(-1e6, 1e6)), max_size=60), st.integers(0, 60))
def test_a_point_that_was_told_is_told_again_as_it_was_whatever_comes_after_it(
    points: list[tuple[int, float]], known: int
) -> None:
    points.sort(key=lambda point: point[0])
    head = points[:known]
    saved = head[-1][0] - 1 if head else 0  # of the last step, more may come
    told = in_windows(head, saved)
    assert in_windows(points, 10**8)[: len(told)] == told


def test_a_thousand_points_stand_for_any_number_of_episodes() -> None:
    assert [window_end(step) for step in (0, 7, 999, 1000, 1001, 9999, 123_456)] == [
        0,
        7,
        999,
        1000,
        1010,
        10_000,
        124_000,
    ]
    many = in_windows([(step, 1.0) for step in range(100_050, 1_000_000, 50)], 10**6)
    assert len(many) == 900
    assert in_windows([(11, 1.0), (11, 3.0)], 11) == [(11, 2.0)]
    assert in_windows([(1001, 1.0)], 1005) == [], "of its window, more may come"


def test_a_run_is_told_with_its_configuration_its_curves_and_its_sessions(tmp_path: Path) -> None:
    config = begin(tmp_path)
    assert (seen(config).series, seen(config).outcome) == ({}, "running")
    grow(config, 1)
    grow(config, 2)
    run = seen(config)
    assert run.run_id == RUN
    assert [(point.step, point.value) for point in run.series[EVALUATIONS]] == [(s, s) for s in (50, 100, 150, 200)]
    assert [point.step for point in run.series[EPISODES]] == list(range(10, 201, 10))
    assert [(point.step, point.value) for point in run.series["session/steps_gained"]] == [(1, STEPS), (2, STEPS)]
    dates = [point.at for point in run.series[EVALUATIONS]]
    assert dates == [run.lineage[0]["ended_at"]] * 2 + [run.lineage[1]["ended_at"]] * 2
    assert run.parameters["hyperparameters.policy_kwargs.net_arch"] == "[64, 64]"
    assert run.parameters["seed"] == "3"
    assert not any(name.startswith("source_files") for name in run.parameters)
    assert (run.facts["step"], run.facts["best_score"], run.facts["exactness"]) == ("200", "200.0", "exact")
    assert [(row["session"], row["first_step"], row["last_step"]) for row in run.lineage] == [
        (1, 0, 100),
        (2, 100, 200),
    ]
    assert str(tmp_path) not in repr(run), "no folder of this machine is told"
    grow(config, 3, is_last=True)
    later = seen(config)
    assert later.outcome == "finished"
    for name, points in run.series.items():
        assert later.series[name][: len(points)] == points


def test_of_what_was_never_trained_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"^Nothing was trained of \w+ yet"):
        seen(config_in(tmp_path))
    assert list(tmp_path.iterdir()) == []
