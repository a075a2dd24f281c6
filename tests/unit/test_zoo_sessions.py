"""`scripts/zoo_sessions.py`: its short scenarios are valid, and a score that is not reached is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo_sessions import CASES, Case, Reached, short_scenario

from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.scaffold import new_section


@pytest.mark.parametrize(
    ("stock", "good"),
    [([10.0, 10.0], True), ([8.4, 8.6], True), ([20.0], True), ([8.2], False), ([8.0, 8.0, 8.1], False)],
)
def test_a_mean_below_the_interval_of_the_reported_score_is_not_that_score(stock: list[float], good: bool) -> None:
    reported = [8.0, 12.0] * 5  # 10 +- 2.262 * 2.108 / sqrt(10)
    found = Reached(reported, stock, "stable_baselines3", False)
    assert (found.mean, round(found.half, 3)) == (10.0, 1.508)
    assert found.good == good
    assert ("**no**" in str(found)) != good


def test_episodes_that_are_all_alike_leave_no_interval() -> None:
    assert Reached([500.0], [500.0] * 3, "", False).good
    assert not Reached([500.0], [499.0] * 3, "", False).good


def test_each_algorithm_has_a_case() -> None:
    assert {case.algorithm for case in CASES} == {*NAMES, "TQC, HER"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.zoo)
def test_a_short_scenario_is_a_valid_one_that_is_shown_in_three_sessions(case: Case, tmp_path: Path) -> None:
    made = new_section(case.zoo, tmp_path, algorithm=case.algorithm.partition(",")[0])
    path = made.section.folder / "section.toml"
    with path.open("a", encoding="utf-8") as file:
        file.write(short_scenario(case))
    section = load_section(path)
    short = section.scenario("short")
    assert section.demo is not None
    assert (section.demo.scenario, section.demo.sessions) == ("short", 3)
    assert short.timesteps == section.demo.timesteps == case.timesteps
    assert dict(short.hyperparameters) == {**section.scenario().hyperparameters, **case.short}
    assert short.evaluates_every(case.timesteps) == case.timesteps // 3
