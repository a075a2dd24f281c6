"""A vehicle is given a route only where SUMO could send it over no other."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from validation_ch7.section_7_6_rl_performance.intersection import find_intersection
from validation_ch7.section_7_6_rl_performance.second_study.routes import unavoidable_route, with_routes


def following(text: str) -> dict[str, dict[str, None]]:
    """`"ab bc"`: `b` follows `a`, and `c` follows `b`."""
    found: dict[str, dict[str, None]] = {}
    for before, after in text.split():
        found.setdefault(before, {})[after] = None
    return found


@pytest.mark.parametrize(
    ("network", "route"),
    [
        pytest.param("ab bc", "abc", id="the only way"),
        pytest.param("ab bc ad dc", None, id="two ways of one length"),
        pytest.param("ab bc ad de ec", None, id="a longer way round"),
        pytest.param("ac ab ba", "ac", id="back over an edge"),
        pytest.param("ab bc bd de eb", "abc", id="out of the way and back to it"),
        pytest.param("ab cb", None, id="no way"),
    ],
)
def test_a_route_is_a_way_that_no_other_avoids(network: str, route: str | None) -> None:
    assert unavoidable_route(following(network), "a", "c") == (list(route) if route else None)


def test_an_edge_to_itself_is_a_route() -> None:
    assert unavoidable_route({}, "a", "a") == ["a"]


@pytest.fixture
def net(tmp_path: Path) -> str:
    links = "".join(f'<connection from="{before}" to="{after}"/>' for before, after in ("ab", "bc", "ad", "dc", "be"))
    (tmp_path / "net.xml").write_text(f"<net>{links}</net>")
    return str(tmp_path / "net.xml")


def traffic(net: str, *trips: str) -> list[ET.Element]:
    file = Path(net).with_name("rou.xml")
    file.write_text(f"<routes><vType id='car'/>{''.join(trips)}</routes>")
    return list(ET.fromstring(with_routes(net, str(file))))


def test_the_first_trip_and_those_with_several_ways_or_words_of_their_own_stay_trips(net: str) -> None:
    plain = "<trip id='{0}' type='car' depart='{0}' from='{1}' to='{2}'/>".format
    found = traffic(
        net,
        plain(1, "a", "b"),
        plain(2, "a", "b"),
        plain(3, "a", "c"),
        plain(4, "a", "e"),
        "<trip id='5' depart='5' from='a' to='b' via='b'/>",
        "<trip id='6' depart='6' from='a' to='b'><stop lane='b_0'/></trip>",
        "<trip id='7' depart='7' fromTaz='a' to='b'/>",
        plain(8, "a", "b"),
    )
    assert [each.tag for each in found] == [
        *("route", "route", "vType"),
        *("trip", "vehicle", "trip", "vehicle", "trip", "trip", "trip", "vehicle"),
    ]
    routes = {each.attrib["id"]: each.attrib["edges"] for each in found if each.tag == "route"}
    vehicles = {each.attrib["id"]: routes[each.attrib["route"]] for each in found if each.tag == "vehicle"}
    assert vehicles == {"2": "a b", "4": "a b e", "8": "a b"}
    assert found[4].attrib.keys() == {"id", "type", "depart", "route"}


@pytest.mark.parametrize("name", ["cologne1", "ingolstadt1"])
def test_all_vehicles_but_the_first_have_a_route_at_the_intersections_of_the_study(name: str) -> None:
    site = find_intersection(name)
    before = ET.parse(site.route_file).getroot()
    after = ET.fromstring(with_routes(str(site.net_file), str(site.route_file)))
    trips, vehicles = before.findall("trip"), after.findall("vehicle")
    assert len(after.findall("trip")) == 1
    assert [each.attrib["id"] for each in vehicles] == [each.attrib["id"] for each in trips[1:]]
    ends = {each.attrib["id"]: each.attrib["edges"].split() for each in after.findall("route")}
    assert all(
        (ends[vehicle.attrib["route"]][0], ends[vehicle.attrib["route"]][-1])
        == (trip.attrib["from"], trip.attrib["to"])
        for trip, vehicle in zip(trips[1:], vehicles, strict=True)
    )
