"""Webster's fixed-time plan for the demand of an intersection, computed from its route file.

Method: F. V. Webster, "Traffic Signal Settings", Road Research Technical Paper 39, HMSO, 1958. With `y` the sum of the
critical flow ratios and `L` the lost time of a cycle, the cycle is `(1.5 L + 5) / (1 - y)` and the effective green is
shared in proportion to the ratios. Where a movement has priority in several phases, the ratios are the smallest that
serve every lane, found by a linear program; without such overlaps they are the usual maxima over the lanes of a phase.

Promises: a function of the network and the demand alone; looks at no simulation.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from kaggle_manager.errors import ConfigError
from validation_ch7.section_7_6_rl_performance.intersection import Intersection

SATURATION_VEH_H = 1900.0 * 0.90
"""Saturation flow of a lane: the base value and the factor of a city centre (Highway Capacity Manual 2010, ch. 18)."""

QUARTER_S = 900

LONGEST_CYCLE_S = 120.0
MOST_LOADED = 0.95
"""Above this sum of flow ratios the formula diverges; the cycle is then the longest."""

Movement = tuple[str, str]


def greens(site: Intersection, *, yellow_s: int, min_green_s: int) -> tuple[float, ...]:
    """Whole seconds of green for each phase of `site`.

    The lost time of a phase is its yellow: the two seconds lost at the start of green and the two gained from the
    yellow (Highway Capacity Manual 2010, chapter 18) cancel out.
    """
    ratios = flow_ratios(site)
    lost_s = sum(yellow_s for phase in range(len(ratios)) if site.yellow(phase, (phase + 1) % len(ratios)))
    load = min(float(ratios.sum()), MOST_LOADED)
    cycle_s = min((1.5 * lost_s + 5.0) / (1.0 - load), LONGEST_CYCLE_S)
    shared = (cycle_s - lost_s) * ratios / ratios.sum()
    return tuple(float(max(min_green_s, round(green))) for green in shared)


def flow_ratios(site: Intersection) -> npt.NDArray[np.float64]:
    """Critical flow ratio of each phase, shape `(P,)`: flow over saturation flow that the phase has to serve."""
    served = _served_by(site)
    constraints, needs = [], []
    for (lane, phases), flow in _lane_flows(site, served).items():
        constraints.append([-1.0 if phase in phases else 0.0 for phase in range(len(site.greens))])
        needs.append(-flow / SATURATION_VEH_H)
        assert phases, f"lane {lane} never has green"
    solution = linprog(np.ones(len(site.greens)), A_ub=constraints, b_ub=needs)
    return np.asarray(solution.x, dtype=np.float64)


def _served_by(site: Intersection) -> dict[int, frozenset[int]]:
    """Link -> the phases that give it priority, or, if none does, those that let it yield."""
    found = {}
    for link in range(len(site.links)):
        lights = [state[link] for state in site.greens]
        light = "G" if "G" in lights else "g"
        found[link] = frozenset(phase for phase, shown in enumerate(lights) if shown == light)
    return found


def _lane_flows(site: Intersection, served: dict[int, frozenset[int]]) -> Counter[tuple[int, frozenset[int]]]:
    """(lane, phases) -> vehicles per hour, each vehicle on the least loaded lane that leads where it goes."""
    choices: dict[Movement, list[int]] = {}
    for link, pair in enumerate(site.links):
        if pair is not None:
            movement = (_edge(site.lanes[pair[0]].id), _edge(site.exits[pair[1]].id))
            choices.setdefault(movement, []).append(link)
    load: Counter[int] = Counter()
    flows: Counter[tuple[int, frozenset[int]]] = Counter()
    demand = movements(site)
    # Movements with least choice first: the others then fill what is left.
    for movement in sorted((m for m in choices if m in demand), key=lambda m: (len(choices[m]), m)):
        for _ in range(round(demand[movement])):
            link = min(choices[movement], key=lambda link: load[_lane(site, link)])
            load[_lane(site, link)] += 1
            flows[_lane(site, link), served[link]] += 1
    return flows


def _lane(site: Intersection, link: int) -> int:
    pair = site.links[link]
    assert pair is not None
    return pair[0]


def _edge(lane: str) -> str:
    return lane.rpartition("_")[0]


@cache
def movements(site: Intersection) -> dict[Movement, float]:
    """(edge before the signal, edge after it) -> vehicles per hour in the busiest quarter of the window.

    Plans are made for the peak quarter, not for the mean of the hour (Highway Capacity Manual 2010, chapter 18); a
    demand given as a rate has no quarters. Vehicles take the shortest route.

    Raises:
        ConfigError: the route file describes demand in a way this does not read.
    """
    import sumolib

    net = sumolib.net.readNet(str(site.net_file))
    root = ET.parse(site.route_file).getroot()
    routes = {route.attrib["id"]: route.attrib["edges"].split() for route in root.iter("route") if "id" in route.attrib}
    entering = {_edge(lane.id) for lane in site.lanes}
    rates: defaultdict[Movement, float] = defaultdict(float)
    quarters: dict[int, Counter[Movement]] = {}
    paths: dict[Movement, list[str]] = {}
    for element in root:
        if element.tag == "trip":
            ends = element.attrib["from"], element.attrib["to"]
            if ends not in paths:
                edges, _ = net.getShortestPath(*(net.getEdge(edge) for edge in ends))
                paths[ends] = [edge.getID() for edge in edges or ()]
            path = paths[ends]
            quarter, rate = int(float(element.attrib["depart"]) - site.begin_s) // QUARTER_S, 0.0
        elif element.tag == "flow" and (period := re.fullmatch(r"exp\(([\d.]+)\)", element.get("period", ""))):
            path, quarter, rate = routes[element.attrib["route"]], None, 3600.0 * float(period[1])
        elif element.tag in ("vType", "route"):
            continue
        else:
            raise ConfigError(f"{site.route_file}: the demand of <{element.tag}> cannot be read for Webster's plan.")
        for before, after in pairwise(path):
            if before in entering:
                rates[before, after] += rate
                if quarter is not None:
                    quarters.setdefault(quarter, Counter())[before, after] += 1
    for movement, vehicles in max(quarters.values(), key=Counter.total, default=Counter[Movement]()).items():
        rates[movement] += vehicles * 3600.0 / QUARTER_S
    return dict(rates)
