"""The intersection as its network file describes it: roads, lengths in metres, and the movements of each green.

The networks of the benchmark name no streets. What they say of a road is shown: where it leads, its class, its number
in OpenStreetMap, its lanes and how long its approach is.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.report.canvas import new_figure
from validation_ch7.section_7_6_rl_performance.report.intersection_picture import LIGHTS, arrow, shape_of
from validation_ch7.section_7_6_rl_performance.report.wording import Language
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import word

AROUND_M = 75.0
PHASE_AROUND_M = 40.0
SCALE_M = 20.0
LANE_WIDTH = 3.5
WINDS = ("east", "north_east", "north", "north_west", "west", "south_west", "south", "south_east")
Shape = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Road:
    """An approach: the lanes of one incoming edge, and where it comes from as a vector of length 1."""

    edge: str
    kind: str
    lanes: int
    length_m: float
    direction: Shape

    def label(self, language: Language) -> str:
        kind = word(self.kind if self.kind.startswith("highway.") else "road", language)
        way = re.sub(r"[-#].*|^-", "", self.edge.lstrip("-"))
        lanes = word("lane", language) if self.lanes == 1 else word("lanes", language).format(self.lanes)
        return (
            f"{word(compass(self.direction), language)}\n{kind}\n{word('way', language).format(way)}\n"
            f"{lanes}, {self.length_m:.0f} m"
        )


def compass(direction: Shape) -> str:
    """Which of eight winds a vector points to; north is up in a network file."""
    return WINDS[round(math.atan2(direction[1], direction[0]) / (math.pi / 4)) % 8]


def draw(site: Intersection, language: Language) -> Figure:
    """The whole intersection, then one panel a green: priority dark, greens that must yield light."""
    net = ET.parse(site.net_file).getroot()
    shapes = {lane.attrib["id"]: shape_of(lane.attrib["shape"]) for lane in net.iterfind("edge/lane")}
    links = {
        int(link.attrib["linkIndex"]): link.attrib["via"]
        for link in net.iterfind("connection")
        if link.get("tl") == site.signal_id and "via" in link.attrib
    }
    centre = np.mean([shapes[via].mean(axis=0) for via in links.values()], axis=0)
    figure = new_figure(4.6)
    figure.clear()
    grid = figure.add_gridspec(2, len(site.greens), height_ratios=[1.7, 1.0])
    whole = figure.add_subplot(grid[0, :])
    _roads(whole, site, shapes, centre, AROUND_M)
    for road in _approaches(site, net, shapes):
        right, up = road.direction * 0.72 * AROUND_M * (1.35, 1.0)
        box = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1.0}
        whole.text(right, up, road.label(language), fontsize=6.5, ha="center", va="center", bbox=box)
    whole.set_xlim(-1.6 * AROUND_M, 1.6 * AROUND_M)
    x, y = 1.25 * AROUND_M, -0.92 * AROUND_M
    whole.plot([x - SCALE_M, x], [y, y], color="black", lw=1.5)
    whole.text(x - SCALE_M / 2, y + 3, f"{SCALE_M:.0f} m", fontsize=7, ha="center")
    for phase, state in enumerate(site.greens):
        axes = figure.add_subplot(grid[1, phase])
        _roads(axes, site, shapes, centre, PHASE_AROUND_M)
        for light in ("g", "G"):  # greens that must yield below those that have priority
            for link, via in links.items():
                if state[link] == light:
                    arrow(axes, shapes[via] - centre, LIGHTS[light])
        axes.set_title(f"{word('phase', language)} {phase}", fontsize=7)
    return figure


def _roads(axes: Axes, site: Intersection, shapes: dict[str, Shape], centre: Shape, around_m: float) -> None:
    for lane in (*site.lanes, *site.exits):
        axes.plot(*(shapes[lane.id] - centre).T, color="#c8c8c8", lw=LANE_WIDTH * 60 / around_m / 2,
                  solid_capstyle="butt", zorder=1)  # fmt: skip
    for lane in site.lanes:
        axes.plot(*(shapes[lane.id] - centre)[-1], "s", ms=2, color="#d62728", zorder=2)
    axes.set_xlim(-around_m, around_m)
    axes.set_ylim(-around_m, around_m)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _approaches(site: Intersection, net: ET.Element, shapes: dict[str, Shape]) -> list[_Road]:
    kinds = {edge.attrib["id"]: edge.get("type", "") for edge in net.iterfind("edge")}
    by_edge: dict[str, list[str]] = {}
    for lane in site.lanes:
        by_edge.setdefault(lane.id.rsplit("_", 1)[0], []).append(lane.id)
    lengths = {lane.id: lane.length_m for lane in site.lanes}
    roads = []
    for edge, lanes in by_edge.items():
        outward = np.mean([shapes[lane][-2] - shapes[lane][-1] for lane in lanes], axis=0)
        roads.append(_Road(edge, kinds[edge], len(lanes), lengths[lanes[0]], outward / np.linalg.norm(outward)))
    return roads
