"""Held-out episodes of real SUMO, kept by what they depend on: never stale, never twice, never wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from validation_ch7.section_7_6_rl_performance import episode_cache
from validation_ch7.section_7_6_rl_performance.baselines import Contender, GreedyQueue, baselines
from validation_ch7.section_7_6_rl_performance.episode_cache import EpisodeCache, key_of, surroundings
from validation_ch7.section_7_6_rl_performance.episodes import play
from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.signal_plan import SignalPlan
from validation_ch7.section_7_6_rl_performance.simulation import EpisodeRequest, Order, Simulation, Snapshot

pytestmark = pytest.mark.slow

pytest.importorskip("libsumo")

SHORT = {"intersection": "synthetic", "episode_s": 120}
GREEDY = Contender("greedy_queue", make=GreedyQueue)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were really simulated."""
    seeds: list[int] = []
    real = episode_cache.play

    def play(contender: Contender, kwargs: Any, wanted: Any) -> Any:
        for episode in real(contender, kwargs, wanted):
            seeds.append(episode.seed)
            yield episode

    monkeypatch.setattr(episode_cache, "play", play)
    return seeds


def test_more_seeds_extend_what_is_kept_and_nothing_is_played_twice(tmp_path: Path, played: list[int]) -> None:
    cache = EpisodeCache(tmp_path)
    first = cache.episodes(GREEDY, SHORT, [1, 2])
    more = cache.episodes(GREEDY, SHORT, [3, 2, 1])
    assert played == [1, 2, 3]
    assert more[:0:-1] == first
    assert cache.episodes(GREEDY, SHORT, [1, 2, 3]) == more[::-1]
    assert played == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


def test_it_serves_in_another_folder_and_holds_no_path(tmp_path: Path, played: list[int]) -> None:
    here = EpisodeCache(tmp_path / "here")
    found = here.episodes(GREEDY, SHORT, [1])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert EpisodeCache(tmp_path / "there").episodes(GREEDY, SHORT, [1]) == found
    assert played == [1]
    (file,) = (tmp_path / "there").iterdir()
    text = file.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert str(Path(episode_cache.__file__).parent) not in text


@pytest.mark.parametrize("harm", ["altered", "cut", "other key", "impossible"])
def test_what_does_not_verify_is_computed_again_loudly(tmp_path: Path, played: list[int], harm: str) -> None:
    said: list[str] = []
    cache = EpisodeCache(tmp_path, said.append)
    found = cache.episodes(GREEDY, SHORT, [1])
    (file,) = tmp_path.iterdir()
    body = json.loads(file.read_bytes())
    if harm == "altered":
        body["episodes"][0]["metrics"]["mean_delay_s"] /= 2
    elif harm == "other key":
        body["key"]["demand_sha256"] = "0" * 64
    elif harm == "impossible":
        body["episodes"][0]["metrics"]["completed"] += 1
    if harm in ("other key", "impossible"):  # sealed again, as a program with a defect would
        body.pop("sha256")
        body["sha256"] = episode_cache._sha256(episode_cache._canonical(body))
    data = episode_cache._canonical(body)
    file.write_bytes(data[:-20] if harm == "cut" else data)
    assert cache.episodes(GREEDY, SHORT, [1]) == found
    assert played == [1, 1]
    assert any("WARNING" in line and file.name in line for line in said)
    assert cache.episodes(GREEDY, SHORT, [1]) == found
    assert played == [1, 1]


def test_a_key_changes_with_everything_an_episode_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    around = surroundings(SHORT)
    keys = [
        key_of(GREEDY, around),
        key_of(Contender("max_pressure", make=GreedyQueue), around),
        key_of(Contender("greedy_queue", make=GreedyQueue, content={"model_sha256": "x"}), around),
        key_of(Contender("greedy_queue", SignalPlan("static", (9.0, 9.0, 9.0, 9.0))), around),
        *(
            key_of(GREEDY, surroundings({**SHORT, **other}))
            for other in ({"episode_s": 130}, {"yellow_s": 4}, {"min_green_s": 6}, {"intersection": "ingolstadt1"})
        ),
    ]
    copies = tmp_path / "networks"
    shutil.copytree(find_intersection("synthetic").net_file.parent, copies)
    monkeypatch.setattr("validation_ch7.section_7_6_rl_performance.intersection.OWN_NETWORKS", copies)
    assert key_of(GREEDY, surroundings(SHORT)) == keys[0]
    for name in ("synthetic.net.xml", "synthetic.rou.xml"):
        (copies / name).write_text((copies / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
        keys.append(key_of(GREEDY, surroundings(SHORT)))
    names = {EpisodeCache(tmp_path).path(key) for key in keys}
    assert len(names) == len(keys)


@pytest.mark.parametrize("changed", ["sumo_version", "numpy", "source", "parameter"])
def test_another_simulator_source_or_parameter_is_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    site = find_intersection("synthetic")
    (actuated,) = (each for each in baselines(site, yellow_s=3, min_green_s=5) if each.name == "actuated")
    before = key_of(actuated, surroundings(SHORT))
    if changed == "sumo_version":
        monkeypatch.setattr(episode_cache.TrafficSignalEnv, "sumo_version", "SUMO 1.29.0")
    elif changed == "numpy":
        monkeypatch.setattr(episode_cache.np, "__version__", "9.9")
    elif changed == "source":
        real = episode_cache.source_digests
        monkeypatch.setattr(episode_cache, "source_digests", lambda *where: {**real(*where), "baselines.py": "other"})
    else:
        assert actuated.plan is not None
        actuated = replace(actuated, plan=replace(actuated.plan, parameters=(("max-gap", "9.0"),)))
    assert EpisodeCache(tmp_path).path(key_of(actuated, surroundings(SHORT))) != EpisodeCache(tmp_path).path(before)


def test_every_baseline_meets_the_same_demand_and_window(tmp_path: Path) -> None:
    cache = EpisodeCache(tmp_path)
    site = find_intersection("synthetic")
    found = {
        contender.name: cache.episodes(contender, {"intersection": "synthetic"}, [11, 12])
        for contender in baselines(site, yellow_s=3, min_green_s=5)
    }
    assert len(found) == 7
    for position in (0, 1):
        assert len({episodes[position].metrics.demand for episodes in found.values()}) == 1
        assert {len(episodes[position].queue) for episodes in found.values()} == {60}
        assert len({episodes[position].digest for episodes in found.values()}) == 7
    delay = {name: sum(episode.metrics.mean_delay_s for episode in episodes) for name, episodes in found.items()}
    assert delay["random"] == max(delay.values())
    for name in ("webster", "actuated", "delay_based", "greedy_queue", "max_pressure"):
        assert delay[name] < delay["fixed_time"] * 1.05


def test_every_baseline_is_given_the_same_simulation_interval_and_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[EpisodeRequest] = []
    orders: dict[str, list[Sequence[Order]]] = {}
    start, advance = Simulation.start, Simulation.advance

    def noted_start(self: Simulation, request: EpisodeRequest) -> Snapshot:
        asked.append(request)
        return start(self, request)

    def noted_advance(self: Simulation, given: Sequence[Order]) -> Snapshot:
        orders[playing].append(given)
        return advance(self, given)

    monkeypatch.setattr(Simulation, "start", noted_start)
    monkeypatch.setattr(Simulation, "advance", noted_advance)
    contenders = baselines(find_intersection("synthetic"), yellow_s=3, min_green_s=5)
    for contender in contenders:
        playing = contender.name
        orders[playing] = []
        assert [episode.seed for episode in play(contender, SHORT, [11])] == [11]
    # But for who shows the greens, one request: network, demand, window, seed, lanes and detection distance.
    assert len(asked) == len(contenders) == 7
    assert len({replace(request, program=None, initial_state=None) for request in asked}) == 1
    for given in orders.values():
        assert [sum(seconds for _, seconds in decision) for decision in given] == [10] * 12
    shown = [order for given in orders.values() for decision in given for order in decision]
    yellows = [seconds for state, seconds in shown if "y" in (state or "")]
    assert yellows
    assert set(yellows) == {3}
