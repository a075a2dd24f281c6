"""Traffic whose vehicles need not look for their way: they are given the one that no other avoids.

SUMO looks for the way of every trip, in every episode, and keeps count of all travel times for it. At a single
intersection that is a fifth of an episode, and finds each time what it found before.

A trip gets a route only where every way from its first edge to its last leads over all edges of that route, so that any
other is the same with a detour; and only if it says nothing more than when and from where to where. The first trip
stays one: as soon as SUMO looks for one way, it checks who can enter before it moves the others, and else afterwards.

Promises: every vehicle drives as SUMO would send it, bit for bit, while no turn inside the junction takes longer than a
detour. In a gridlock one does: then SUMO would send some of the vehicles that come out of the network's dead ends and
back, and here they wait. `scripts/benchmarks/traffic_routes.py` compares.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from functools import cache

_ENDS = {"from", "to"}
_OF_A_PLAIN_TRIP = {"id", "type", "depart", *_ENDS}

Following = Mapping[str, Mapping[str, None]]
"""The edges that follow each edge, in the order of the file."""


def with_routes(net_file: str, route_file: str) -> bytes:
    """The traffic of `route_file` as XML, with routes for all trips that can have one.

    Raises:
        OSError, ET.ParseError: a file cannot be read.
    """
    following: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for link in ET.parse(net_file).getroot().iterfind("connection"):
        following[link.attrib["from"]][link.attrib["to"]] = None
    traffic = ET.parse(route_file).getroot()
    routes: list[ET.Element] = []

    @cache
    def route_id(start: str, end: str) -> str | None:
        if (edges := unavoidable_route(following, start, end)) is None:
            return None
        routes.append(ET.Element("route", id=f"route{len(routes)}", edges=" ".join(edges)))
        return routes[-1].attrib["id"]

    for trip in traffic.findall("trip")[1:]:
        if len(trip) or not _ENDS <= trip.attrib.keys() <= _OF_A_PLAIN_TRIP:
            continue
        if (route := route_id(trip.attrib["from"], trip.attrib["to"])) is not None:
            trip.tag = "vehicle"
            trip.set("route", route)
            del trip.attrib["from"], trip.attrib["to"]
    traffic[:0] = routes
    return ET.tostring(traffic)


def unavoidable_route(following: Following, start: str, end: str) -> list[str] | None:
    """The edges that every way from `start` to `end` leads over, if they are a way themselves; else None."""
    route = _shortest(following, start, end)
    if route is None or any(_shortest(following, start, end, without=edge) for edge in route[1:-1]):
        return None
    return route


def _shortest(following: Following, start: str, end: str, without: str | None = None) -> list[str] | None:
    """A way of the fewest edges; None if there is none that avoids `without`."""
    came_from: dict[str, str | None] = {start: None}
    queue = [start]
    for edge in queue:
        if edge == end:
            route = [edge]
            while (before := came_from[route[0]]) is not None:
                route.insert(0, before)
            return route
        for after in following.get(edge, ()):
            if after not in came_from and after != without:
                came_from[after] = edge
                queue.append(after)
    return None
