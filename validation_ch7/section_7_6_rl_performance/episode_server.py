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
import re
import signal
import struct
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from validation_ch7.section_7_6_rl_performance.simulation import EpisodeRequest, Snapshot, Trip

# Debian and Ubuntu packages of the system libraries libsumo links to.
SYSTEM_PACKAGES = {
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libGL": "libgl1",
    "libatomic": "libatomic1",
    "libexpat": "libexpat1",
}


def serve(descriptor: int) -> None:
    """Load libsumo, then fork one process for each episode asked for, until the trainer is gone."""
    with Connection(descriptor) as connection:
        try:
            import libsumo  # loaded once; every fork starts with it
        except ImportError as error:
            _tell(connection, "failed", explain_import_error(error))
            return
        gc.freeze()  # what is loaded now is no episode's garbage
        _tell(connection, "ready", libsumo.getVersion()[1])
        while True:
            try:
                request = connection.recv()
            except (EOFError, OSError):
                return
            if not isinstance(request, EpisodeRequest):  # meant for an episode that has just been killed
                continue
            child = os.fork()
            if child == 0:
                try:
                    _run_episode(libsumo, connection, request)
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    pass  # the trainer is gone
                except Exception as error:
                    _tell(connection, "failed", (f"SUMO stopped: {type(error).__name__}: {error}",))
                finally:
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                name = signal.Signals(os.WTERMSIG(status)).name
                _tell(connection, "failed", (f"The process of this episode was killed by {name}.",))


def explain_import_error(error: ImportError) -> tuple[str, str]:
    """What is missing and how to get it: a system library, or libsumo itself."""
    library = re.search(r"(lib[A-Za-z0-9_+-]+)\.so", str(error))
    if library is None:
        return f"libsumo cannot be imported: {error}", "pip install libsumo==1.28.0"
    package = SYSTEM_PACKAGES.get(library[1])
    how = f"apt-get install {package}" if package else "install the system package that provides it."
    return f"libsumo cannot be loaded: the system library {library[0]} is missing ({error}).", how


def _tell(connection: Connection, kind: str, value: object) -> None:
    with contextlib.suppress(OSError):  # the trainer is gone; the next read ends the process
        connection.send((kind, value))


def _run_episode(sumo: Any, connection: Connection, request: EpisodeRequest) -> None:
    # Unlinked at birth: a killed episode leaves nothing behind.
    with tempfile.TemporaryFile() as tripinfo, tempfile.TemporaryFile() as program:
        program.write((request.program or "").encode())
        program.seek(0)
        sumo.start(_options(request, tripinfo.fileno(), program.fileno()))
        if request.initial_state is not None:
            sumo.trafficlight.setRedYellowGreenState(request.signal_id, request.initial_state)
        watch = _Watch(sumo, request)
        connection.send(("snapshot", watch.look()))
        while True:
            orders = connection.recv()
            if orders is None:
                return
            for state, seconds in orders:
                if state is not None:
                    sumo.trafficlight.setRedYellowGreenState(request.signal_id, state)
                sumo.simulationStep(sumo.simulation.getTime() + seconds)  # one call, a second at a time within
            snapshot = watch.look()
            if snapshot.time_s >= request.end_s:
                sumo.close()
                tripinfo.seek(0)
                rows = ET.parse(tripinfo).getroot().iter("tripinfo")
                trips = tuple(_trip(row.attrib, request.end_s) for row in rows)
                connection.send(("snapshot", replace(snapshot, trips=trips)))
                return
            connection.send(("snapshot", snapshot))


def _options(request: EpisodeRequest, tripinfo: int, program: int) -> list[str]:
    """SUMO's command line: no teleporting, and vehicles enter as in SUMO 1.9, the version RESCO was made with."""
    return [
        "sumo",
        f"--net-file={request.net_file}",
        *([f"--additional-files=/dev/fd/{program}"] if request.program else []),
        f"--route-files={request.route_file}",
        f"--begin={request.begin_s}",
        f"--end={request.end_s}",
        f"--seed={request.seed}",
        "--time-to-teleport=-1",
        "--default.departspeed=0",
        "--default.departlane=first",
        f"--tripinfo-output=/dev/fd/{tripinfo}",
        "--tripinfo-output.write-unfinished=true",
        "--tripinfo-output.write-undeparted=true",
        "--no-step-log=true",
        "--no-warnings=true",
    ]


class _Watch:
    """Looks at the intersection after each order. Remembers since when each vehicle has waited."""

    def __init__(self, sumo: Any, request: EpisodeRequest) -> None:
        self._sumo = sumo
        self._request = request
        self._waits_since: dict[str, float] = {}
        self._digest = hashlib.blake2b(digest_size=16)

    def look(self) -> Snapshot:
        lane, vehicle, request = self._sumo.lane, self._sumo.vehicle, self._request
        now = self._sumo.simulation.getTime()
        waits_since: dict[str, float] = {}
        rows = []
        for lane_id, length_m in request.lanes:
            vehicles = halting = queued = near = 0
            waiting_s = 0.0
            for name in lane.getLastStepVehicleIDs(lane_id):
                distance_m = length_m - vehicle.getLanePosition(name)
                if distance_m > request.detection_m:
                    continue
                vehicles += 1
                near += distance_m <= request.near_m
                standing_s = vehicle.getWaitingTime(name)
                halting += standing_s > 0
                since = self._waits_since.get(name, now - standing_s if standing_s > 0 else None)
                if since is not None:
                    waits_since[name] = since
                    queued += 1
                    waiting_s += now - since
            rows.append((vehicles, halting, queued, near, waiting_s))
        self._waits_since = waits_since
        columns = tuple(zip(*rows, strict=True))
        return Snapshot(
            time_s=round(now),
            vehicles=columns[0],
            halting=columns[1],
            queued=columns[2],
            near=columns[3],
            waiting_s=columns[4],
            exit_halting=tuple(lane.getLastStepHaltingNumber(lane_id) for lane_id in request.exits),
            digest=self._extended_digest(now),
        )

    def _extended_digest(self, now: float) -> str:
        vehicle, pack = self._sumo.vehicle, struct.Struct("<3d").pack
        vehicles = [
            name.encode() + pack(*vehicle.getPosition(name), vehicle.getSpeed(name)) for name in vehicle.getIDList()
        ]
        self._digest.update(b"".join([*vehicles, struct.pack("<d", now)]))
        return self._digest.hexdigest()


def _trip(row: dict[str, str], end_s: int) -> Trip:
    inserted = float(row["depart"]) >= 0
    depart_delay_s = float(row["departDelay"])
    return Trip(
        id=row["id"],
        due_s=(float(row["depart"]) if inserted else end_s) - depart_delay_s,
        duration_s=float(row["duration"]) if inserted else 0.0,
        time_loss_s=float(row["timeLoss"]) if inserted else 0.0,
        depart_delay_s=depart_delay_s,
        waiting_s=float(row["waitingTime"]) if inserted else 0.0,
        stops=int(row["waitingCount"]) if inserted else 0,
        route_m=float(row["routeLength"]) if inserted else 0.0,
        speed_factor=float(row["speedFactor"]),
        inserted=inserted,
        arrived=float(row["arrival"]) >= 0,
    )
