"""What a detector and a box detector cover: the lanes that lead to the stop lines, and those inside the junction.

The first study looked at the lanes that end at the signal and nowhere else: on Ingolstadt's west arm that is nine
metres. Here an approach goes on upstream, through the junctions before it, as far as the detection reaches.

Promises: static, read from the network file alone, in an order that depends only on the file.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from validation_ch7.section_7_6_rl_performance.intersection import Intersection


@dataclass(frozen=True)
class Stretch:
    """A lane of an approach, `ends_m` before the stop line."""

    lane: str
    length_m: float
    ends_m: float


@dataclass(frozen=True)
class Junction:
    """The lanes around and inside a signalled intersection.

    Attributes:
        approaches: for each incoming lane of the intersection, the lane itself and what leads to it, nearest first.
            No lane belongs to two of them, and none is an exit of the same intersection.
        boxes: for each link of the signal, the lanes inside the junction that it leads over.
    """

    approaches: tuple[tuple[Stretch, ...], ...]
    boxes: tuple[tuple[str, ...], ...]

    def places(self, reach_m: float, vehicle_m: float) -> tuple[float, ...]:
        """Vehicles that fit on each approach within `reach_m` of the stop line, at least 1."""
        return tuple(
            max(1.0, sum(max(0.0, min(each.length_m, reach_m - each.ends_m)) for each in approach) / vehicle_m)
            for approach in self.approaches
        )


def read_junction(site: Intersection, reach_m: float) -> Junction:
    """The approaches of `site` up to `reach_m` before the stop lines, and its box."""
    return _read(site.net_file, tuple(lane.id for lane in site.lanes), tuple(lane.id for lane in site.exits),
                 site.signal_id, len(site.links), reach_m)  # fmt: skip


def _read(
    net_file: Path, entries: tuple[str, ...], exits: tuple[str, ...], signal_id: str, links: int, reach_m: float
) -> Junction:
    net = ET.parse(net_file).getroot()
    length_m = {lane.attrib["id"]: float(lane.attrib["length"]) for lane in net.iterfind("edge/lane")}
    inside: dict[str, str] = {}  # a lane inside a junction -> the next one, where there is one
    feeders: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)  # lane -> (lane before it, first lane between)
    first_inside = [""] * links
    for link in net.iterfind("connection"):
        before = f"{link.attrib['from']}_{link.attrib['fromLane']}"
        after, via = f"{link.attrib['to']}_{link.attrib['toLane']}", link.get("via", "")
        if before.startswith(":"):
            inside[before] = via
            continue
        feeders[after].append((before, via))
        if link.get("tl") == signal_id:
            first_inside[int(link.attrib["linkIndex"])] = via

    def through(via: str) -> list[str]:
        lanes = []
        while via:
            lanes.append(via)
            via = inside.get(via, "")
        return lanes

    seen = {*entries, *exits}

    def approach(lane: str, ends_m: float) -> list[Stretch]:
        found = [Stretch(lane, length_m[lane], ends_m)]
        starts_m = ends_m + length_m[lane]
        for before, via in feeders[lane]:
            if before in seen:
                continue
            ends_before_m = starts_m
            for between in reversed(through(via)):
                if ends_before_m < reach_m:
                    found.append(Stretch(between, length_m[between], ends_before_m))
                ends_before_m += length_m[between]
            if ends_before_m < reach_m:
                seen.add(before)
                found += approach(before, ends_before_m)
        return found

    return Junction(
        approaches=tuple(tuple(approach(lane, 0.0)) for lane in entries),
        boxes=tuple(tuple(through(via)) for via in first_inside),
    )
