"""An intersection names its scenario, for the scripts of section 7.6 alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kaggle_validation_section_7_6 import with_scenario

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.project import get_section
from validation_ch7.section_7_6_rl_performance.scenarios import scenario_at

ROOT = Path(__file__).resolve().parents[3]


def test_an_intersection_names_its_scenario() -> None:
    section = get_section(ROOT, "section_7_6_rl_performance")
    assert scenario_at(section, "synthetic") == section.default_scenario
    assert scenario_at(section, "cologne1") == "traffic_light_control_cologne1"
    with pytest.raises(ConfigError) as refused:
        scenario_at(section, "paris")
    assert refused.value.next_step == "choose one of: cologne1, ingolstadt1, synthetic"


def test_the_script_trains_the_scenario_at_an_intersection(capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--scenario", "traffic_light_control_cologne1", "--seeds", "5"]
    assert with_scenario(["--seeds", "5", "--intersection", "cologne1"]) == there
    assert with_scenario(there) == there
    assert with_scenario(["--quick"]) == ["--quick"]
    for refused in (["--intersection", "paris"], ["--intersection", "cologne1", "--scenario", "x"]):
        with pytest.raises(SystemExit) as left:
            with_scenario(refused)
        assert left.value.code == 2
    assert "choose one of: cologne1" in capsys.readouterr().err
