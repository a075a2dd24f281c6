"""What a sweep says of itself: the best trial, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_sweep import STOPS, SWEEP

from kaggle_manager.sweeps.report import interval_of, is_over, report_of
from kaggle_manager.sweeps.study import Result, Study


def test_the_interval_is_students(tmp_path: Path) -> None:
    assert interval_of([1.0]) is None
    low, high = interval_of([1.0, 2.0, 3.0, 4.0, 5.0]) or (0, 0)
    assert (low, high) == pytest.approx((1.03676, 4.96324), abs=1e-4), "scipy.stats.t.interval(0.95, 4, 3, sem)"
    scores = [float(number) for number in range(41)]
    low, high = interval_of(scores) or (0, 0)
    assert (low, high) == pytest.approx((16.21879, 23.78121), abs=2e-3), "scipy.stats.t.interval(0.95, 40, 20, sem)"


def test_trials_say_where_they_stand_and_the_best_one_what_it_was_made_of(tmp_path: Path) -> None:
    study = Study.begin(tmp_path / "toy", "pole", STOPS, SWEEP, "it")
    assert [*report_of(study).best_lines()] == ["no trial has a score yet"]
    for number, score in enumerate((3.0, 5.0, None, None)):
        study.add({"n_envs": number + 1}, 0)
        if score is not None:
            study.tell(Result(trial=number, step=10, score=score))
    study.tell(Result(trial=2, step=0, failure="it broke"))
    study.promote(1, 10)
    study.tell(Result(trial=1, step=30, score=7.0))
    report = report_of(study, {1: [1.0, 3.0]})
    assert [trial.state for trial in report.trials] == ["paused", "complete", "failed", "running"]
    assert report.best == (1, 0)
    text = "\n".join(report.lines())
    assert "best: trial 1, reward 7 at step 30\n  n_envs = 2" in text
    assert "--scenario pole_trial_1" in text
    assert "trial 1 under 2 fresh seeds: reward 2, 95 % interval of the mean -10.7062 to 14.7062" in text
    assert "trial 2  failed       it broke" in text


def test_a_trial_on_its_way_is_in_the_state_of_its_run_and_no_other_is(tmp_path: Path) -> None:
    study = Study.begin(tmp_path / "toy", "pole", STOPS, SWEEP, "it")
    for number in range(3):
        study.add({"n_envs": number + 1}, 0)
    study.tell(Result(trial=0, step=10, score=3.0))
    states = {f"pole_trial_{number}": "waiting" for number in range(2)}
    report = report_of(study).with_runs(states)
    assert [trial.state for trial in report.trials] == ["paused", "waiting", "running"]
    assert "trial 1  waiting " in "\n".join(report.lines())


def test_a_sweep_is_over_once_every_trial_that_was_asked_for_is_judged(tmp_path: Path) -> None:
    two = SWEEP.model_copy(update={"trials": 2})
    study = Study.begin(tmp_path / "toy", "pole", STOPS, two, "it")
    for number in range(2):
        assert not is_over(study)
        study.add({"n_envs": number + 1}, 0)
        study.tell(Result(trial=number, step=10, score=float(number)))
    assert not is_over(study), "the better one goes on"
    study.promote(1, 10)
    study.tell(Result(trial=1, step=30, score=7.0))
    assert is_over(study)
