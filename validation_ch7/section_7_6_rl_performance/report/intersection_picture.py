"""The intersection as its network file describes it, once for each green phase."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from validation_ch7.section_7_6_rl_performance.intersection import Intersection
from validation_ch7.section_7_6_rl_performance.report.canvas import new_figure
from validation_ch7.section_7_6_rl_performance.report.wording import Language, word

AROUND_M = 45.0
LIGHTS = {"G": "#1a9641", "g": "#a6d96a"}
Shape = npt.NDArray[np.float64]


def draw(site: Intersection, language: Language) -> Figure:
    """One panel a phase: roads in grey, priority greens dark, greens that must yield light."""
    net = ET.parse(site.net_file).getroot()
    shapes = {lane.attrib["id"]: shape_of(lane.attrib["shape"]) for lane in net.iterfind("edge/lane")}
    links = {
        int(link.attrib["linkIndex"]): link.attrib["via"]
        for link in net.iterfind("connection")
        if link.get("tl") == site.signal_id and "via" in link.attrib
    }
    centre = np.mean([shapes[via].mean(axis=0) for via in links.values()], axis=0)
    figure = new_figure(2.3, 1, len(site.greens))
    for phase, (axes, state) in enumerate(zip(figure.axes, site.greens, strict=True)):
        for lane in (*site.lanes, *site.exits):
            axes.plot(*(shapes[lane.id] - centre).T, color="#cccccc", lw=3, solid_capstyle="butt", zorder=1)
        # Greens that must yield below those that have priority.
        for light in ("g", "G"):
            for link, via in links.items():
                if state[link] == light:
                    arrow(axes, shapes[via] - centre, LIGHTS[light])
        axes.set_xlim(-AROUND_M, AROUND_M)
        axes.set_ylim(-AROUND_M, AROUND_M)
        axes.set_aspect("equal")
        axes.set_axis_off()
        shown = word("shipped_s", language).format(f"{site.green_durations_s[phase]:g}")
        axes.set_title(f"{word('phase', language)} {phase}\n{shown}", fontsize=7)
    return figure


def arrow(axes: Axes, path: Shape, colour: str) -> None:
    """A movement along `path`, in metres."""
    axes.plot(*path.T, color=colour, lw=1.4, zorder=2)
    axes.annotate("", xy=path[-1], xytext=path[-2], arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.4})


def shape_of(text: str) -> Shape:
    """The points of a lane, as a network file writes them, shape `(points, 2)`."""
    return np.array([[float(value) for value in point.split(",")[:2]] for point in text.split()])
