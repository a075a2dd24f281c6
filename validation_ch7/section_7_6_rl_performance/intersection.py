"""What an intersection is: its lanes, its green phases and which movements each phase serves, read from a SUMO network.

Promises: everything here is static and read from the network file alone, without SUMO, in an order that depends only
on the file. Networks of the RESCO benchmark (Ault & Sharon, NeurIPS 2021) are read where the `sumo-rl` wheel installs
them, verified, and never copied: their licences are not this project's (Cologne: CC BY-NC-SA 3.0; Ingolstadt: GPLv3).
"""

from __future__ import annotations

import hashlib
import importlib.util
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import ConfigError

OWN_NETWORKS = Path(__file__).resolve().parent / "networks"

# Begin and length of the simulated window in seconds; the RESCO windows are those of its own `.sumocfg` files.
WINDOWS = {"synthetic": (0, 600), "cologne1": (25_200, 3_600), "ingolstadt1": (57_600, 3_600)}

# sha256 of network and demand in sumo-rl 1.4.5. Here, so that they enter the fingerprint of the environment.
CONTENT = {
    "cologne1.net.xml": "25b44c0450c8d8e1d13ae5c11e38ef8e55719c98eb76f861ca26f82e044524b5",
    "cologne1.rou.xml": "7a3be6818a25b8c2bf48340eeead3e3dd26ed58683cdecd2b42ad3296a9d5eb7",
    "ingolstadt1.net.xml": "b34c625361d076efe612ba325e3ebdbdedde65a9a0101513672a5b03a3999a66",
    "ingolstadt1.rou.xml": "c165df16d4cb378b67818fc382b28e1b25f71f330ab67bf6c4b0c1c5c3574cef",
}
INSTALL = "pip install --no-deps sumo-rl==1.4.5, or choose the synthetic intersection."


@dataclass(frozen=True)
class Lane:
    """A lane of the network: SUMO's id, length in metres, speed limit in m/s."""

    id: str
    length_m: float
    limit_m_s: float


@dataclass(frozen=True)
class Intersection:
    """One signalled intersection.

    Attributes:
        lanes: incoming lanes, in the order of the signal's links.
        exits: outgoing lanes, in the same order.
        links: for each link of the signal, (index into `lanes`, index into `exits`), or None for a link that is
            not a pair of lanes (a crossing).
        greens: the signal state of each green phase, one letter per link; an action is an index into it.
        green_durations_s: how long the shipped fixed-time plan shows each green phase.
        network_limit_m_s: the highest speed limit anywhere in the network.
    """

    name: str
    net_file: Path
    route_file: Path
    begin_s: int
    duration_s: int
    signal_id: str
    lanes: tuple[Lane, ...]
    exits: tuple[Lane, ...]
    links: tuple[tuple[int, int] | None, ...]
    greens: tuple[str, ...]
    green_durations_s: tuple[float, ...]
    network_limit_m_s: float

    def served(self, phase: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The incoming and the outgoing lanes of the movements that `phase` gives priority to.

        A permissive green (`g`) must yield and may not move at all, so it does not count, as in RESCO's baselines.
        """
        pairs = zip(self.greens[phase], self.links, strict=True)
        links = [link for light, link in pairs if light == "G" and link is not None]
        return tuple(sorted({lane for lane, _ in links})), tuple(sorted({leaving for _, leaving in links}))

    def yellow(self, before: int, after: int) -> str | None:
        """The signal state between two green phases, or None when no link loses its green."""
        pairs = list(zip(self.greens[before], self.greens[after], strict=True))
        losing = [old in "Gg" and new not in "Gg" for old, new in pairs]
        if not any(losing):
            return None
        return "".join("y" if loses else old for loses, (old, _) in zip(losing, pairs, strict=True))


def find_intersection(name: str) -> Intersection:
    """The intersection called `name`.

    Raises:
        ConfigError: the name is unknown, or its network is not installed or not the one this study is about.
    """
    if name not in WINDOWS:
        raise ConfigError(f"There is no intersection {name!r}.", next_step=f"choose one of: {', '.join(WINDOWS)}.")
    folder = OWN_NETWORKS if name == "synthetic" else _resco_networks() / name
    net_file, route_file = folder / f"{name}.net.xml", folder / f"{name}.rou.xml"
    for file in (net_file, route_file):
        if file.name in CONTENT and _sha256(file) != CONTENT[file.name]:
            raise ConfigError(f"{file.name} is not that of sumo-rl 1.4.5.", next_step=INSTALL)
    return read_network(name, net_file, route_file, *WINDOWS[name])


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file.name} cannot be read: {error}", next_step=INSTALL) from error


def _resco_networks() -> Path:
    spec = importlib.util.find_spec("sumo_rl")  # found, not imported: importing it needs a SUMO installation
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "The RESCO networks are not installed; they come with the sumo-rl package.",
            next_step=INSTALL,
        )
    return Path(spec.submodule_search_locations[0]) / "nets" / "RESCO"


def read_network(name: str, net_file: Path, route_file: Path, begin_s: int, duration_s: int) -> Intersection:
    """Read the one signalled intersection of `net_file`.

    Green phases are the distinct states of the shipped plan that show a green and no yellow, in plan order, as the
    RESCO benchmark takes them.

    Raises:
        ConfigError: the file cannot be read, or does not hold exactly one signal with at least two green phases.
    """
    try:
        net = ET.parse(net_file).getroot()
        route_file.stat()
    except (OSError, ET.ParseError) as error:
        raise ConfigError(f"The network of {name} cannot be read: {error}") from error

    signals = net.findall("tlLogic")
    durations: dict[str, float] = {}
    for phase in signals[0].findall("phase") if len(signals) == 1 else []:
        state = phase.attrib["state"]
        if set(state) & {"G", "g"} and not set(state) & {"y", "Y"}:
            durations.setdefault(state, float(phase.attrib["duration"]))
    if len(durations) < 2:
        raise ConfigError(f"{net_file} does not hold exactly one signal with two or more green phases.")

    known = {
        lane.attrib["id"]: Lane(lane.attrib["id"], float(lane.attrib["length"]), float(lane.attrib["speed"]))
        for lane in net.iterfind("edge/lane")
    }
    signal_id = signals[0].attrib["id"]
    lanes: dict[str, int] = {}
    exits: dict[str, int] = {}
    links: list[tuple[int, int] | None] = [None] * len(next(iter(durations)))
    controlled = [link for link in net.iterfind("connection") if link.get("tl") == signal_id]
    for link in sorted(controlled, key=lambda link: int(link.attrib["linkIndex"])):
        if not link.attrib["from"].startswith(":"):
            lane = lanes.setdefault(f"{link.attrib['from']}_{link.attrib['fromLane']}", len(lanes))
            leaving = exits.setdefault(f"{link.attrib['to']}_{link.attrib['toLane']}", len(exits))
            links[int(link.attrib["linkIndex"])] = (lane, leaving)
    return Intersection(
        name=name,
        net_file=net_file,
        route_file=route_file,
        begin_s=begin_s,
        duration_s=duration_s,
        signal_id=signal_id,
        lanes=tuple(known[lane] for lane in lanes),
        exits=tuple(known[lane] for lane in exits),
        links=tuple(links),
        greens=tuple(durations),
        green_durations_s=tuple(durations.values()),
        network_limit_m_s=max(lane.limit_m_s for lane in known.values()),
    )
