"""The simulator's end: loads libsumo once, then forks one process for each episode and serves it.

Promises: every episode starts from the same pristine state; nothing outlives the trainer, because every read ends when
its socket closes; whatever goes wrong is told to the trainer in words before the process leaves. Runs in an interpreter
of its own (see `simulation.py`), never inside a trainer.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import pickle
import signal
import struct
import tempfile
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Sequence
from functools import cache
from multiprocessing.connection import Connection
from typing import IO, Any

# `_trip` is private there and stays so: a change of that file would be another environment of the first study.
from validation_ch7.section_7_6_rl_performance.episode_server import _trip, explain_import_error
from validation_ch7.section_7_6_rl_performance.second_study.messages import (
    DIGEST_BYTES,
    FAILED,
    READY,
    REQUEST,
    TRIPS,
    EpisodeRequest,
    State,
    pack_look,
    read_order,
)
from validation_ch7.section_7_6_rl_performance.second_study.routes import with_routes
from validation_ch7.section_7_6_rl_performance.second_study.signal_controller import SignalController


def serve(descriptor: int) -> None:
    """Load libsumo, then fork one process for each episode asked for, until the trainer is gone."""
    with Connection(descriptor) as connection:
        try:
            import libsumo  # loaded once; every fork starts with it
        except ImportError as error:
            _fail(connection, *explain_import_error(error))
            return
        gc.freeze()  # what is loaded now is no episode's garbage
        connection.send_bytes(READY + libsumo.getVersion()[1].encode())
        while True:
            try:
                message = connection.recv_bytes()
            except (EOFError, OSError):
                return
            if not message.startswith(REQUEST):  # meant for an episode that has just been killed
                continue
            request: EpisodeRequest = pickle.loads(message[1:])
            try:
                traffic = _traffic(request.net_file, request.route_file)
            except (OSError, ET.ParseError) as error:
                _fail(connection, f"The traffic of {request.route_file} cannot be read: {error}")
                return
            child = os.fork()
            if child == 0:
                try:
                    _run_episode(libsumo, connection, request, traffic)
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    pass  # the trainer is gone
                except Exception as error:
                    _fail(connection, f"SUMO stopped: {type(error).__name__}: {error}")
                finally:
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                name = signal.Signals(os.WTERMSIG(status)).name
                _fail(connection, f"The process of this episode was killed by {name}.")


def _fail(connection: Connection, *what: str) -> None:
    with contextlib.suppress(OSError):  # the trainer is gone; the next read ends the process
        connection.send_bytes(FAILED + pickle.dumps(what))


@cache
def _traffic(net_file: str, route_file: str) -> IO[bytes]:
    """What SUMO reads in every episode; made once."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # stays open for all forks; unlinked: a kill leaves nothing behind
    file.write(with_routes(net_file, route_file))
    file.flush()
    return file


def _run_episode(sumo: Any, connection: Connection, request: EpisodeRequest, traffic: IO[bytes]) -> None:
    with tempfile.TemporaryFile() as tripinfo:
        traffic.seek(0)  # where a file opened by its descriptor goes on where that one stands
        sumo.start(_options(request, traffic.fileno(), tripinfo.fileno()))
        watch, controller = Watch(sumo, request), SignalController(request.greens, request.timing)
        show, step, shown = sumo.trafficlight.setRedYellowGreenState, sumo.simulationStep, None
        connection.send_bytes(watch.look(controller))
        time_s = request.begin_s
        while time_s < request.end_s:
            order = read_order(connection.recv_bytes())
            if order is None:
                return
            wanted, seconds = order
            for _ in range(seconds):
                state = controller.next_second(wanted, watch)
                if state != shown:
                    show(request.signal_id, state)
                    shown = state
                step()
            time_s += seconds
            connection.send_bytes(watch.look(controller))
        if request.trips:
            sumo.close()
            tripinfo.seek(0)
            rows = ET.parse(tripinfo).getroot().iter("tripinfo")
            connection.send_bytes(TRIPS + pickle.dumps(tuple(_trip(row.attrib, request.end_s) for row in rows)))


def _options(request: EpisodeRequest, traffic: int, tripinfo: int) -> list[str]:
    """SUMO's command line: no teleporting, and vehicles enter as in SUMO 1.9, the version RESCO was made with."""
    return [
        "sumo",
        f"--net-file={request.net_file}",
        f"--route-files=/dev/fd/{traffic}",
        f"--begin={request.begin_s}",
        f"--end={request.end_s}",
        f"--seed={request.seed}",
        f"--scale={request.demand}",
        f"--random-depart-offset={request.departure_shift_s}",
        "--time-to-teleport=-1",
        "--default.departspeed=0",
        "--default.departlane=first",
        *([f"--tripinfo-output=/dev/fd/{tripinfo}"] if request.trips else []),
        "--tripinfo-output.write-unfinished=true",
        "--tripinfo-output.write-undeparted=true",
        "--no-step-log=true",
        "--no-warnings=true",
    ]


class Watch:
    """Looks at the intersection: for the signal while it changes, and for the trainer after each order.

    Remembers since when each vehicle has waited, and what each had lost at the last look.
    """

    def __init__(self, sumo: Any, request: EpisodeRequest) -> None:
        self._sumo = sumo
        self._request = request
        self._waits_since: dict[str, float] = {}
        self._lost_s: dict[str, float] = {}
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        boxes = zip(request.links, request.boxes, strict=True)
        self._box = [(link[0], lane) for link, lanes in boxes if link is not None for lane in lanes]

    def is_in_box(self, links: Sequence[int]) -> bool:
        """As `signal_controller.Traffic`."""
        count = self._sumo.lane.getLastStepVehicleNumber
        return any(count(lane) for link in links for lane in self._request.boxes[link])

    def is_waiting(self, links: Sequence[int]) -> bool:
        """As `signal_controller.Traffic`."""
        lanes = {link[0] for link in (self._request.links[number] for number in links) if link is not None}
        halting = self._sumo.lane.getLastStepHaltingNumber
        return any(halting(self._request.approaches[lane][0].lane) for lane in lanes)

    def look(self, controller: SignalController) -> bytes:
        """What there is to see now, as a message."""
        lane, simulation = self._sumo.lane, self._sumo.simulation
        now = simulation.getTime()
        rows = self._approaches(now)
        in_box, longest_in_box_s = self._inside()
        exits = self._request.exits
        state = State(
            time_s=now,
            phase=controller.phase,
            following=-1 if controller.following is None else controller.following,
            green_s=controller.green_s,
            changing_s=controller.changing_s,
            switches=controller.switches,
            delay_s=self._delay_s(now),
            outside=len(simulation.getPendingVehicles()),
            longest_in_box_s=longest_in_box_s,
        )
        readings = [
            *zip(*rows, strict=True),
            in_box,
            [lane.getLastStepVehicleNumber(each) for each in exits],
            [lane.getLastStepHaltingNumber(each) for each in exits],
        ]
        return pack_look(state, readings, self._digest.digest())

    def _approaches(self, now: float) -> list[tuple[float, ...]]:
        """A row for each incoming lane: the readings up to `approaching`."""
        request = self._request
        vehicles_on, position = self._sumo.lane.getLastStepVehicleIDs, self._sumo.vehicle.getLanePosition
        standing = self._sumo.vehicle.getWaitingTime
        waits_since: dict[str, float] = {}
        rows: list[tuple[float, ...]] = []
        for approach in request.approaches:
            vehicles = halting = queued = near = approaching = 0
            waiting_s = longest_s = 0.0
            for stretch in approach:
                starts_m = stretch.ends_m + stretch.length_m
                for name in vehicles_on(stretch.lane):
                    distance_m = starts_m - position(name)
                    if distance_m > request.detection_m:
                        continue
                    vehicles += 1
                    standing_s = standing(name)
                    if standing_s > 0:
                        halting += 1
                    if distance_m <= request.near_m:
                        near += 1
                        approaching += standing_s <= 0
                    since = self._waits_since.get(name, now - standing_s if standing_s > 0 else None)
                    if since is not None:
                        waits_since[name] = since
                        queued += 1
                        waiting_s += now - since
                        longest_s = max(longest_s, now - since)
            rows.append((vehicles, halting, queued, waiting_s, longest_s, near, approaching))
        self._waits_since = waits_since
        return rows

    def _inside(self) -> tuple[list[int], float]:
        """Vehicles standing inside the junction by the lane they came from, and the longest any has stood there."""
        halting, vehicles_on = self._sumo.lane.getLastStepHaltingNumber, self._sumo.lane.getLastStepVehicleIDs
        in_box, longest_s = [0] * len(self._request.approaches), 0.0
        for origin, lane in self._box:
            if count := halting(lane):
                in_box[origin] += count
                longest_s = max(longest_s, *map(self._sumo.vehicle.getWaitingTime, vehicles_on(lane)))
        return in_box, longest_s

    def _delay_s(self, now: float) -> float:
        """Time lost by all vehicles since the last look (without what those that left meanwhile lost at the end).

        The digest is made of the same numbers: a vehicle that drove otherwise for a moment has lost another time.
        """
        names = self._sumo.vehicle.getIDList()
        lost_s = array("d", map(self._sumo.vehicle.getTimeLoss, names))
        self._digest.update(b"".join([struct.pack("<d", now), "\n".join(names).encode(), lost_s.tobytes()]))
        before, self._lost_s = self._lost_s, dict(zip(names, lost_s, strict=True))
        return sum(lost_s) - sum(before[name] for name in names if name in before)
