"""Signal plans and Webster's formula: the agent's greens, its yellow, and the demand's own numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance import intersection, webster
from validation_ch7.section_7_6_rl_performance.baselines import GreedyQueue, baselines
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.signal_plan import SignalPlan

NAMES = ("synthetic", "cologne1", "ingolstadt1")
SITE = find_intersection("synthetic")


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_shows_the_agents_greens_with_its_yellow_and_minimum(name: str) -> None:
    site = find_intersection(name)
    for contender in baselines(site, yellow_s=3, min_green_s=5):
        program = contender.plan and contender.plan.program(site, yellow_s=3, min_green_s=5)
        if program is None:
            continue
        phases = ET.fromstring(program).findall("tlLogic/phase")
        greens = [phase for phase in phases if "y" not in phase.attrib["state"]]
        assert tuple(phase.attrib["state"] for phase in greens) == site.greens
        assert {phase.attrib["duration"] for phase in phases if phase not in greens} == {"3"}
        for green in greens:
            assert float(green.get("minDur", green.attrib["duration"])) >= 5


def test_the_shipped_plan_is_left_to_the_network() -> None:
    assert SignalPlan().program(SITE, yellow_s=3, min_green_s=5) is None


def test_the_greedy_controller_counts_the_lanes_that_resco_counts() -> None:
    def choice(name: str, near: tuple[int, ...]) -> int:
        env = SimpleNamespace(intersection=find_intersection(name), snapshot=SimpleNamespace(near=near))
        return GreedyQueue().act(env, np.zeros(1, np.float32))  # type: ignore[arg-type]

    # cologne1: every lane that a green serves counts for it.
    assert choice("cologne1", (0, 0, 1, 3, 0, 2, 0, 0)) == 0
    assert choice("cologne1", (3, 0, 0, 0, 0, 2, 0, 0)) == 2
    # ingolstadt1: nobody counts the left-turn lane 2; 3 and 5 are counted by one green each, though two serve them.
    assert choice("ingolstadt1", (0, 0, 9, 0, 1, 0, 0)) == 2
    assert choice("ingolstadt1", (0, 0, 0, 3, 0, 2, 0)) == 2
    assert choice("ingolstadt1", (0, 0, 0, 2, 0, 3, 0)) == 0


def test_webster_is_the_textbook_formula_where_phases_do_not_overlap() -> None:
    # 450 straight and 72 right on one lane, 108 left; 180 and 36, 54 (networks/synthetic.rou.xml).
    critical = np.array([450 + 72, 108, 180 + 36, 54]) / webster.SATURATION_VEH_H
    assert webster.flow_ratios(SITE) == pytest.approx(critical)
    cycle = (1.5 * 12 + 5) / (1 - critical.sum())
    expected = [max(5, round(green)) for green in (cycle - 12) * critical / critical.sum()]
    assert webster.greens(SITE, yellow_s=3, min_green_s=5) == tuple(expected)


@pytest.mark.parametrize("name", ["cologne1", "ingolstadt1"])
def test_the_demand_of_the_busiest_quarter_enters_webster(name: str) -> None:
    site = find_intersection(name)
    per_hour = sum(webster.movements(site).values())
    trips = len(ET.parse(site.route_file).getroot().findall("trip"))
    assert trips < per_hour < 1.6 * trips
    assert all(flow > 0 for flow in webster.flow_ratios(site))


def test_a_demand_webster_cannot_read_is_refused(tmp_path: Path) -> None:
    routes = tmp_path / "x.rou.xml"
    routes.write_text('<routes><person id="p" depart="0"/></routes>', encoding="utf-8")
    with pytest.raises(ConfigError, match="<person> cannot be read"):
        webster.movements(replace(SITE, route_file=routes))


def test_a_network_that_is_not_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(intersection.CONTENT, "cologne1.rou.xml", "0" * 64)
    with pytest.raises(ConfigError, match=r"cologne1\.rou\.xml is not that of sumo-rl") as refused:
        find_intersection("cologne1")
    assert "pip install" in refused.value.next_step


def test_networks_that_are_not_installed_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intersection.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed") as refused:
        find_intersection("ingolstadt1")
    assert "pip install --no-deps sumo-rl" in refused.value.next_step
    assert find_intersection("synthetic").lanes


def test_webster_shares_vehicles_among_lanes_and_phases_that_overlap() -> None:
    """Ingolstadt: states GGgGrGGG, GGGrrrrr, rrrGGGrr; the approach 104010354 has one shared and one straight lane."""
    site = find_intersection("ingolstadt1")
    flow = webster.movements(site)
    straight, left = flow["104010354", "124812857#0"], flow["104010354", "-164051413"]
    expected = [(straight + left) / 2, flow["201963537#1", "-164051413"], flow["164051413", "104010475#0"]]
    assert webster.flow_ratios(site) * webster.SATURATION_VEH_H == pytest.approx(expected, abs=1.0)
