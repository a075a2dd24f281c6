"""What trainer and simulator say to each other: one request an episode, then packed orders and packed looks.

An order is 9 bytes, a look some 80 numbers and a digest: nothing is pickled while an episode runs.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from validation_ch7.section_7_6_rl_performance.second_study.junction import Stretch
from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import Timing
from validation_ch7.section_7_6_rl_performance.simulation import Trip

Numbers = npt.NDArray[np.float64]

# The first byte of a message. To the simulator: a request, an order, the end of the episode. From it: a look, the trips
# of an episode that is over, what went wrong, and the version it says when it is ready.
REQUEST, ORDER, ABANDON = b"Q", b"O", b"A"
LOOK, TRIPS, FAILED, READY = b"L", b"T", b"F", b"R"

_ORDER = struct.Struct("<cii")
DIGEST_BYTES = 16


@dataclass(frozen=True)
class EpisodeRequest:
    """What to simulate and what to watch. Times in seconds, distances in metres before the stop line.

    Attributes:
        greens, links: as `Intersection.greens` and `Intersection.links`.
        approaches, boxes: as `Junction`.
        exits: ids of the outgoing lanes.
        demand: share of the vehicles that come; above 1 some come twice.
        departure_shift_s: each departure is put off by a random time up to this.
        trips: whether every trip is counted at the end, which costs a tenth of an episode.
    """

    net_file: str
    route_file: str
    begin_s: int
    end_s: int
    seed: int
    signal_id: str
    timing: Timing
    greens: tuple[str, ...]
    links: tuple[tuple[int, int] | None, ...]
    approaches: tuple[tuple[Stretch, ...], ...]
    boxes: tuple[tuple[str, ...], ...]
    exits: tuple[str, ...]
    detection_m: float
    near_m: float
    demand: float
    departure_shift_s: int
    trips: bool


class Readings(NamedTuple):
    """What the detectors say, an array each: one number for each incoming lane, or for each outgoing one.

    Within the detection distance: `vehicles`, `halting` ones, `queued` ones (that have stood, even if they move now)
    and `waiting_s`, the sum over vehicles of the time since each first stood; `longest_wait_s` is the longest of these.
    Within the near distance: `near` vehicles, and those of them that move, `approaching`. `in_box`: vehicles standing
    inside the junction that came from this lane. Of outgoing lanes: `exit_vehicles`, `exit_halting`.
    """

    vehicles: Numbers
    halting: Numbers
    queued: Numbers
    waiting_s: Numbers
    longest_wait_s: Numbers
    near: Numbers
    approaching: Numbers
    in_box: Numbers
    exit_vehicles: Numbers
    exit_halting: Numbers


OF_A_LANE = 8
"""How many of the readings are of incoming lanes; the others are of outgoing ones."""


class State(NamedTuple):
    """The signal and the traffic at one moment; the first five as `SignalController` (`following`: -1 for none).

    `delay_s` is the time that all vehicles in the network have lost since the last look, seconds times vehicles;
    `outside` are vehicles that wait to enter the network; `longest_in_box_s` is how long the vehicle that has stood
    longest inside the junction has.
    """

    time_s: float
    phase: float
    following: float
    green_s: float
    changing_s: float
    switches: float
    delay_s: float
    outside: float
    longest_in_box_s: float


@dataclass(frozen=True)
class Snapshot:
    """The intersection at one moment.

    `digest` chains, at every look, the time lost so far by every vehicle: two equal digests mean equal histories.
    `trips` is there once an episode is over that was to count them.
    """

    time_s: int
    phase: int
    following: int | None
    green_s: int
    changing_s: int
    switches: int
    delay_s: float
    outside: int
    longest_in_box_s: float
    readings: Readings
    digest: str
    trips: tuple[Trip, ...] | None = None

    @property
    def halting(self) -> tuple[int, ...]:
        """Vehicles standing on each incoming lane."""
        return tuple(map(int, self.readings.halting))


def pack_order(wanted: int, seconds: int) -> bytes:
    """Ask for green `wanted` for `seconds`."""
    return _ORDER.pack(ORDER, wanted, seconds)


def read_order(message: bytes) -> tuple[int, int] | None:
    """Green and seconds; None for any other message."""
    if not message.startswith(ORDER):
        return None
    _, wanted, seconds = _ORDER.unpack(message)
    return wanted, seconds


def pack_look(state: State, readings: Sequence[Sequence[float]], digest: bytes) -> bytes:
    """A look as one message; `readings` in the order of `Readings`."""
    numbers = array("d", state)
    for column in readings:
        numbers.extend(column)
    return LOOK + digest + numbers.tobytes()


def read_look(message: bytes, lanes: int, exits: int) -> Snapshot:
    """The snapshot of a look at an intersection with so many incoming and outgoing lanes."""
    numbers = np.frombuffer(message, np.float64, offset=1 + DIGEST_BYTES)
    state = State(*numbers[: len(State._fields)].tolist())
    of_lanes = numbers[len(State._fields) :][: OF_A_LANE * lanes].reshape(OF_A_LANE, lanes)
    of_exits = numbers[len(State._fields) + OF_A_LANE * lanes :].reshape(-1, exits)
    return Snapshot(
        time_s=round(state.time_s),
        phase=int(state.phase),
        following=None if state.following < 0 else int(state.following),
        green_s=int(state.green_s),
        changing_s=int(state.changing_s),
        switches=int(state.switches),
        delay_s=state.delay_s,
        outside=int(state.outside),
        longest_in_box_s=state.longest_in_box_s,
        readings=Readings(*of_lanes, *of_exits),
        digest=message[1 : 1 + DIGEST_BYTES].hex(),
    )
