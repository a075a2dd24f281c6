"""The pure parts of the traffic environment: networks, yellow, observation, reward, metrics, missing libraries."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.episode_server import _Watch, explain_import_error
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection, read_network
from validation_ch7.section_7_6_rl_performance.metrics import impossible, summarise
from validation_ch7.section_7_6_rl_performance.observation import capacities, observe
from validation_ch7.section_7_6_rl_performance.reward import WORST, reward
from validation_ch7.section_7_6_rl_performance.simulation import EpisodeRequest, Snapshot, Trip

SITE = find_intersection("synthetic")
EMPTY = Snapshot(0, (0,) * 8, (0,) * 8, (0,) * 8, (0,) * 8, (0.0,) * 8, (0,) * 8, "")
TRIP = Trip("v", 0.0, 60.0, 20.0, 2.0, 10.0, 1, 500.0, 1.0, inserted=True, arrived=True)


def test_every_lane_and_every_exit_is_served_by_a_green() -> None:
    assert len(SITE.lanes) == len(SITE.exits) == 8
    assert len(SITE.greens) == 4
    lanes = [SITE.served(phase)[0] for phase in range(4)]
    assert sorted(lane for served in lanes for lane in served) == list(range(8))
    assert set().union(*(SITE.served(phase)[1] for phase in range(4))) == set(range(8))


def test_a_green_that_must_yield_does_not_count_as_served() -> None:
    yielding = replace(SITE, greens=(SITE.greens[0].replace("G", "g", 1), *SITE.greens[1:]))
    assert set(yielding.served(0)[1]) < set(SITE.served(0)[1])
    assert yielding.yellow(0, 1) == SITE.yellow(0, 1)


def test_yellow_stands_between_greens_and_only_where_green_is_lost() -> None:
    assert SITE.yellow(0, 0) is None
    yellow = SITE.yellow(0, 1)
    assert yellow is not None
    for before, between, after in zip(SITE.greens[0], yellow, SITE.greens[1], strict=True):
        assert between == ("y" if before in "Gg" and after not in "Gg" else before)


def test_an_unknown_or_missing_network_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of: synthetic, cologne1, ingolstadt1"):
        find_intersection("paris")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_network("x", tmp_path / "x.net.xml", tmp_path / "x.rou.xml", 0, 60)
    for name in ("x.net.xml", "x.rou.xml"):
        (tmp_path / name).write_text("<net/>", encoding="utf-8")
    with pytest.raises(ConfigError, match="exactly one signal"):
        read_network("x", tmp_path / "x.net.xml", tmp_path / "x.rou.xml", 0, 60)


@pytest.mark.parametrize("kwargs", [{"episode_s": 65}, {"episode_s": 0}, {"yellow_s": 10}, {"yellow_s": -1}])
def test_times_that_do_not_fit_are_refused_before_sumo_starts(kwargs: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="cannot be simulated"):
        TrafficSignalEnv(**kwargs)


def test_the_observation_is_laid_out_as_documented_and_stays_in_bounds() -> None:
    capacity = capacities(SITE.lanes, 200.0)
    assert capacity == pytest.approx([200 / 7.5] * 8)
    assert capacities(SITE.lanes, 1.0) == pytest.approx([1.0] * 8)
    jam = replace(EMPTY, vehicles=(99,) * 8, halting=(0, 10, 0, 0, 0, 0, 0, 0))
    seen = observe(jam, 2, 4, may_switch=True, capacity=capacity)
    assert seen.dtype == np.float32
    assert seen.shape == (4 + 1 + 16,)
    assert list(seen[:5]) == [0, 0, 1, 0, 1]
    assert list(seen[5:13]) == [1.0] * 8
    assert seen[14] == pytest.approx(10 * 7.5 / 200)


def test_the_reward_falls_with_waiting_and_never_saturates() -> None:
    rewards = [reward(waiting, 200.0) for waiting in (0.0, 1.0, 100.0, 1_000.0, 100_000.0, 1_000_000.0)]
    assert rewards[0] == 0.0
    assert rewards[1] == pytest.approx(-1 / 200, rel=0.01)
    assert rewards == sorted(rewards, reverse=True)
    assert len(set(rewards)) == len(rewards)
    assert rewards[-1] > -WORST


def test_a_vehicle_that_creeps_forward_has_waited_since_it_first_stood() -> None:
    """SUMO forgets a wait as soon as the vehicle moves; the reward must not."""
    clock = {"now": 0.0}
    standing_s = {"v": 0.0}
    sumo = SimpleNamespace(
        simulation=SimpleNamespace(getTime=lambda: clock["now"]),
        lane=SimpleNamespace(getLastStepVehicleIDs=lambda lane: ["v"], getLastStepHaltingNumber=lambda lane: 0),
        vehicle=SimpleNamespace(
            getIDList=lambda: ["v"],
            getLanePosition=lambda name: 260.0,
            getWaitingTime=lambda name: standing_s[name],
            getPosition=lambda name: (0.0, 0.0),
            getSpeed=lambda name: 0.0,
        ),
    )
    request = EpisodeRequest("", "", 0, 600, 1, "C", None, (("L", 300.0),), (), detection_m=200.0, near_m=50.0)
    watch = _Watch(sumo, request)
    seen = []
    for clock["now"], standing_s["v"] in ((10.0, 0.0), (20.0, 4.0), (30.0, 0.0), (40.0, 2.0)):
        look = watch.look()
        seen.append((look.halting[0], look.queued[0], look.waiting_s[0]))
        assert look.vehicles == look.near == (1,)
    assert seen == [(0, 0, 0.0), (1, 1, 4.0), (0, 1, 14.0), (1, 1, 24.0)]
    assert _Watch(sumo, replace(request, detection_m=39.0)).look().vehicles == (0,)


def test_no_vehicle_is_dropped_from_the_metrics() -> None:
    unfinished = TRIP._replace(id="u", arrived=False, time_loss_s=40.0)
    outside = Trip("o", 0.0, 0.0, 0.0, 100.0, 0.0, 0, 0.0, 1.0, inserted=False, arrived=False)
    found = summarise([TRIP, unfinished, outside], [replace(EMPTY, halting=(1, 2) * 4), EMPTY])
    assert (found.demand, found.completed, found.unfinished, found.never_inserted) == (3, 1, 1, 1)
    assert found.mean_delay_s == pytest.approx((22 + 42 + 100) / 3)
    assert (found.mean_queue, found.max_queue) == (6.0, 12)
    assert impossible(found, [TRIP, unfinished, outside], 13.89) == []


@pytest.mark.parametrize(
    ("trip", "said"),
    [
        (TRIP._replace(time_loss_s=-1.0), "negative delay"),
        (TRIP._replace(waiting_s=61.0), "longer than it travelled"),
        (TRIP._replace(route_m=900.0), "faster than it may"),
        (TRIP._replace(inserted=False, arrived=True, route_m=0.0), "do not add up"),
    ],
)
def test_impossible_results_are_named(trip: Trip, said: str) -> None:
    assert any(said in problem for problem in impossible(summarise([trip], []), [trip], 13.89))


def test_a_missing_system_library_is_named_with_its_package() -> None:
    what, next_step = explain_import_error(ImportError("libGL.so.1: cannot open shared object file: No such file"))
    assert "libGL.so is missing" in what
    assert next_step == "apt-get install libgl1"
    what, next_step = explain_import_error(ModuleNotFoundError("No module named 'libsumo'"))
    assert "pip install libsumo" in next_step


def test_the_committed_network_follows_from_its_sources(tmp_path: Path) -> None:
    from validation_ch7.section_7_6_rl_performance.networks import build

    try:
        text = build.build("netconvert")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("netconvert is not installed")
    assert text == SITE.net_file.read_text(encoding="utf-8")
