"""The pure parts of the second study: lanes, observation, reward, faults, gridlock, controllers, development plan."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.model import load_section
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.second_study import contenders, controllers, development, reward
from validation_ch7.section_7_6_rl_performance.second_study.episodes import CONDITIONS, gridlock_onset_s, longest_red_s
from validation_ch7.section_7_6_rl_performance.second_study.faults import Faults
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.junction import read_junction
from validation_ch7.section_7_6_rl_performance.second_study.messages import (
    OF_A_LANE,
    Readings,
    Snapshot,
    State,
    pack_look,
    pack_order,
    read_look,
    read_order,
)
from validation_ch7.section_7_6_rl_performance.second_study.observation import GROUPS, Observer
from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import Timing

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "validation_ch7" / "section_7_6_rl_performance"
SITE = find_intersection("synthetic")
READINGS = Readings(*(np.zeros(8) for _ in Readings._fields))
CALM = Snapshot(100, 0, None, 10, 0, 0, 0.0, 0, 0.0, READINGS, "")
FIRST_STUDY = {
    "traffic_light_control_cologne1": "aacbb0c9b38d6e16dada64f8b100bf342cabf554bfc07c332df2a07294744160",
    "traffic_light_control_ingolstadt1": "e4414dff5d4e3986586798a671b585e541857bbc0594e951f4a02a5b83e8be38",
}
FIRST_REWARD = "5453a9a83f3df7d29471fdde1d274929f57436fe0644bc79f07ebc79112cc866"


def seen(**columns: Any) -> Readings:
    """Readings that are 0 but for these."""
    return READINGS._replace(**{name: np.array(values, dtype=float) for name, values in columns.items()})


def at(snapshot: Snapshot) -> Any:
    """As much of an environment as a controller looks at."""
    return SimpleNamespace(intersection=SITE, snapshot=snapshot, seen=snapshot.readings, decision_s=5)


def lane_of(phase: int) -> int:
    return SITE.served(phase)[0][0]


def with_lanes(**values: dict[int, float]) -> Readings:
    return seen(**{name: [per.get(lane, 0.0) for lane in range(8)] for name, per in values.items()})


def test_what_the_first_study_is_made_of_is_not_changed_by_the_second() -> None:
    """Its policies and numbers are of these fingerprints; what is to be otherwise goes into the second study."""
    section = load_section(FOLDER / "section.toml")
    for scenario, environment in FIRST_STUDY.items():
        declared = identity_of(section, scenario, ROOT)
        assert declared["environment_fingerprint"] == environment, scenario
        assert declared["reward_fingerprint"] == FIRST_REWARD


@pytest.mark.parametrize("scenario", ["signal_control", "signal_control_ppo_cologne1"])
def test_what_trainer_and_simulator_are_made_of_is_named_in_the_section(scenario: str) -> None:
    """The simulator's process imports what no look at the trainer's would find."""
    program = (
        "import sys\n"
        "from validation_ch7.section_7_6_rl_performance.second_study import environment, episode_server\n"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('validation_ch7.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {
        Path(file).relative_to(FOLDER).as_posix() for file in done.stdout.split() if FOLDER in Path(file).parents
    }
    config = load_section(FOLDER / "section.toml").agent(scenario)
    unnamed = imported - {*config.environment_files, *config.reward_files}
    assert {file for file in unnamed if not file.endswith("__init__.py")} == set()


def test_an_approach_goes_on_upstream_as_far_as_the_detection_and_no_lane_is_in_two() -> None:
    for name in ("synthetic", "cologne1", "ingolstadt1"):
        site = find_intersection(name)
        junction = read_junction(site, 200.0)
        lanes = [stretch.lane for approach in junction.approaches for stretch in approach]
        assert [approach[0].lane for approach in junction.approaches] == [lane.id for lane in site.lanes]
        assert len(set(lanes)) == len(lanes)
        assert not {*lanes} & {lane.id for lane in site.exits}
        assert all(stretch.ends_m < 200 for approach in junction.approaches for stretch in approach)
    west = next(approach for approach in junction.approaches if approach[0].lane == "164051413_1")
    assert [round(stretch.ends_m, 2) for stretch in west if stretch.lane == "653473569#5_1"] == [8.93 + 9.17]
    assert sum(min(stretch.length_m, 200 - stretch.ends_m) for stretch in west) > 90  # the lane itself has 9 m


def test_a_box_has_every_lane_between_the_stop_line_and_the_exit() -> None:
    site = find_intersection("cologne1")
    boxes = read_junction(site, 200.0).boxes
    own = ":cluster_357187_359543"
    assert boxes[1] == (f"{own}_1_0",)
    assert boxes[3] == (f"{own}_3_0", f"{own}_20_0")  # a left turn waits halfway
    assert len(boxes) == len(site.links)
    assert all(boxes)


def test_messages_say_what_they_were_given() -> None:
    assert read_order(pack_order(3, 5)) == (3, 5)
    assert read_order(b"A") is None
    state = State(25_205, 2, -1, 5, 0, 7, 31.5, 4, 12.0)
    columns = [[float(10 * place + lane) for lane in range(3)] for place in range(OF_A_LANE)] + [[1, 2], [3, 4]]
    found = read_look(pack_look(state, columns, bytes(range(16))), lanes=3, exits=2)
    assert (found.time_s, found.phase, found.following, found.green_s, found.switches) == (25_205, 2, None, 5, 7)
    assert (found.delay_s, found.outside, found.longest_in_box_s) == (31.5, 4, 12.0)
    assert [list(column) for column in found.readings] == columns
    assert found.digest == bytes(range(16)).hex()


def test_the_observation_has_every_group_in_its_place_and_stays_in_bounds() -> None:
    junction = read_junction(SITE, 200.0)
    whole = Observer(SITE, junction, Timing(), detection_m=200.0, near_m=50.0)
    assert whole.length == 4 + 3 + 8 * 5 + 2 * 8 + 8
    assert whole.places == pytest.approx(8 * 200 / 7.5)
    jam = Readings(*(np.full(8, 1e4) for _ in Readings._fields))
    vector = whole.see(replace(CALM, phase=2, green_s=25, readings=jam), jam)
    assert vector.dtype == np.float32
    assert list(vector[:7]) == [0, 0, 1, 0, 0, 0.5, 1]
    assert set(vector[7:]) == {1.0}
    changing = whole.see(replace(CALM, phase=2, following=3, green_s=25), READINGS)
    assert list(changing[:7]) == [0, 0, 0, 1, 1, 0, 0]
    lengths = dict(zip(GROUPS, (4, 3, 8, 8, 8, 8, 8, 16, 8), strict=True))
    for left_out in GROUPS:
        groups = [group for group in GROUPS if group != left_out]
        smaller = Observer(SITE, junction, Timing(), detection_m=200.0, near_m=50.0, groups=groups)
        assert smaller.length == whole.length - lengths[left_out]
        assert smaller.see(CALM, READINGS).shape == (smaller.length,)


def test_a_phases_block_says_whether_it_is_shown_and_what_waits_on_its_own_lanes() -> None:
    observer = Observer(SITE, read_junction(SITE, 200.0), Timing(), detection_m=200.0, near_m=50.0, layout="phases")
    lanes, _ = SITE.served(2)
    seen = with_lanes(halting={lanes[0]: 1e4})
    blocks = observer.see(replace(CALM, phase=2, green_s=25, readings=seen), seen).reshape(4, -1)
    assert list(blocks[:, 0]) == [0, 0, 1, 0]
    assert [list(block) for block in blocks[:, 1:4]] == [[0, 0, 0], [0, 0, 0], [0, 0.5, 1], [0, 0, 0]]
    assert list(blocks[2, 6:8]) == [1 / len(lanes), 1]  # mean and largest queue
    others = [phase for phase in range(4) if lanes[0] not in SITE.served(phase)[0]]
    assert not blocks[others, 6:8].any()


def test_the_delay_reward_counts_the_network_and_who_waits_outside_it() -> None:
    assert reward.delay(CALM, 5, 100.0) == 0.0
    assert reward.delay(replace(CALM, delay_s=50.0, outside=10), 5, 100.0) == pytest.approx(-(50 + 50) / 500)


def test_faults_change_what_is_seen_and_nothing_without_them() -> None:
    rng = np.random.default_rng(1)
    full = Readings(*(np.full(8, 10.0) for _ in Readings._fields))
    assert Faults().seen(full, 3, rng) is full
    dead = Faults(dead=True).seen(full, 11, rng)  # 11 % 8
    assert list(dead.vehicles) == [10, 10, 10, 0, 10, 10, 10, 10]
    assert list(dead.exit_halting) == [10] * 8
    noisy = Faults(noise=0.3).seen(full, 3, rng)
    assert len({*noisy.vehicles}) == 8
    assert list(noisy.vehicles) == list(noisy.waiting_s)  # one detector, one error
    assert min(noisy.vehicles) >= 0


def test_gridlock_is_a_vehicle_that_stands_in_the_box_and_begins_when_it_came_to_a_stand() -> None:
    times = [(100, 0.0), (200, 60.0), (290, 149.0), (291, 150.0), (400, 259.0)]
    history = [replace(CALM, time_s=time_s, longest_in_box_s=standing_s) for time_s, standing_s in times]
    assert gridlock_onset_s(history, begin_s=100) == 41
    assert gridlock_onset_s(history[:3], begin_s=100) is None


def test_the_longest_red_is_that_of_vehicles_that_wait_for_it() -> None:
    lane = lane_of(2)
    waits = with_lanes(halting={lane: 1})
    history = [replace(CALM, time_s=5 * number, readings=waits) for number in range(10)]
    assert longest_red_s(SITE, history) == 45
    green = [*history[:6], replace(history[6], phase=2), *history[7:]]
    assert longest_red_s(SITE, green) == 25
    assert longest_red_s(SITE, [replace(each, readings=READINGS) for each in history]) == 0


def test_fixed_time_shows_each_green_for_its_seconds_and_waits_for_the_clearance() -> None:
    rule = controllers.FixedTime([10, 6, 20, 6])
    rule.start(at(CALM), 1)
    asked = [rule.act(at(replace(CALM, green_s=green_s)), None) for green_s in (9, 10)]  # type: ignore[arg-type]
    assert asked == [0, 1]
    assert rule.act(at(replace(CALM, phase=3, green_s=6)), None) == 0  # type: ignore[arg-type]
    assert rule.act(at(replace(CALM, phase=0, following=1, green_s=10)), None) == 1  # type: ignore[arg-type]


def test_actuated_ends_a_green_after_the_gap_and_skips_phases_without_calls() -> None:
    rule = controllers.Actuated(gap_s=2, longest_s=[30, 40, 40, 40])
    rule.start(at(CALM), 1)
    call = {"near": {}, "vehicles": {lane_of(2): 3.0}}
    empty = replace(CALM, readings=with_lanes(**call))  # type: ignore[arg-type]
    assert [rule.act(at(empty), None) for _ in range(3)] == [0, 0, 2]  # type: ignore[arg-type]
    busy = replace(CALM, readings=with_lanes(near={lane_of(0): 1.0}, vehicles={lane_of(3): 1.0}))
    assert rule.act(at(busy), None) == 0  # type: ignore[arg-type]
    assert rule.act(at(replace(busy, green_s=30)), None) == 3  # type: ignore[arg-type]
    rests = controllers.Actuated(gap_s=0, longest_s=[30] * 4)
    rests.start(at(CALM), 1)
    assert [rests.act(at(CALM), None) for _ in range(5)] == [0] * 5  # type: ignore[arg-type]


def test_self_organizing_gathers_red_vehicles_and_spares_the_tail_of_a_platoon() -> None:
    rule = controllers.SelfOrganizing(threshold=10, platoon=2)
    rule.start(at(CALM), 1)
    red = replace(CALM, readings=with_lanes(vehicles={lane_of(2): 4.0}))
    assert [rule.act(at(red), None) for _ in range(3)] == [0, 0, 2]  # type: ignore[arg-type]
    tail = replace(red, readings=with_lanes(vehicles={lane_of(2): 4.0}, near={lane_of(0): 2.0}))
    assert rule.act(at(tail), None) == 0  # type: ignore[arg-type]
    whole = replace(red, readings=with_lanes(vehicles={lane_of(2): 4.0}, near={lane_of(0): 3.0}))
    assert rule.act(at(whole), None) == 2  # type: ignore[arg-type]


def test_hysteresis_keeps_the_green_until_another_queue_is_so_much_longer() -> None:
    rule = controllers.LongestQueue(ahead=2)
    rule.start(at(CALM), 1)
    asked = []
    for other in (3.0, 5.0, 6.0):
        queues = with_lanes(halting={lane_of(0): 3.0, lane_of(2): other})
        asked.append(rule.act(at(replace(CALM, readings=queues)), None))  # type: ignore[arg-type]
    assert asked == [0, 0, 2]


def test_advanced_max_pressure_keeps_the_green_while_vehicles_would_still_pass() -> None:
    rule = controllers.AdvancedMaxPressure(weight=1.0)
    rule.start(at(CALM), 1)
    for moving, wanted in ((4.0, 2), (5.0, 0)):
        readings = with_lanes(halting={lane_of(2): 5.0}, approaching={lane_of(0): moving})
        assert rule.act(at(replace(CALM, readings=readings)), None) == wanted  # type: ignore[arg-type]


def test_parameters_that_were_not_chosen_are_an_error_and_those_that_were_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="actuated for synthetic have not been chosen"):
        contenders.parameters_of("actuated", SITE, tmp_path)
    (tmp_path / "baselines_synthetic.json").write_text('{"chosen": {"sotl": {"threshold": 2, "platoon": 3}}}')
    assert contenders.parameters_of("sotl", SITE, tmp_path) == {"threshold": 2, "platoon": 3}
    assert contenders.parameters_of("fixed_time", SITE, tmp_path) == {"greens_s": [27, 6, 12, 5]}


def test_every_variant_of_the_plan_is_a_scenario_and_no_development_seed_is_one_of_a_result() -> None:
    plan = tomllib.loads(development.PLAN.read_text(encoding="utf-8"))
    section = load_section(FOLDER / "section.toml")
    for name, declared in plan["agents"].items():
        config = development.variant(section, name, declared)
        assert config.models == f"data/models_development/{name}"
        for key, value in declared.get("values", {}).items():
            first, _, rest = key.partition(".")
            held: Any = getattr(config, first)
            for part in rest.split("."):
                held = held[part]
            assert held == value
    assert {*plan["baselines"]} <= {*contenders.RULES}
    judged = {*development.seeds_of("tuning"), *development.seeds_of("judging")}
    held_out = section.study["held_out_seeds"]
    assert not judged & set(range(held_out["first"], held_out["first"] + held_out["count"]))
    assert not {*plan["seeds"]["training"]} & {*section.study["training_seeds"]}


def test_what_is_declared_is_there_to_be_trained_and_played() -> None:
    declared, section = read_declaration(), load_section(FOLDER / "section.toml")
    assert {*declared.traffic.conditions} == {*CONDITIONS} - {"as trained"}
    assert declared.judgement.baselines == [*contenders.RULES]
    for declared_agent in declared.agents.values():
        for site, scenario in declared_agent.scenarios.items():
            assert section.agent(scenario).environment_kwargs["site"] == site
