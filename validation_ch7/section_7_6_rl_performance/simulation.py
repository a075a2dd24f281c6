"""SUMO in a process of its own: each episode runs in a fresh fork of a process that has loaded libsumo and run nothing.

Why a fork per episode: libsumo 1.28 does not always reproduce an episode that is not the first of its process, and it
holds one simulation per process. The parent of the forks is a separate interpreter, started by exec, so it is clean
whatever the trainer has imported or however many threads it runs.

    trainer  --socket-->  server: imports libsumo, waits  --fork-->  episode: serves the same socket, then exits

The server waits for its episode to end before it reads again, so exactly one process reads the socket. When the
trainer dies, even by SIGKILL, the socket closes and both leave at once: no zombie, no orphan, no temporary file.

Promises: an episode is a function of its request and of the orders it received, in any process on the same machine;
every wait is bounded; a simulator that cannot start or dies is a `RunError` that says why. Knows nothing of
reinforcement learning. Outside the forks, nothing here imports libsumo.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError, RunError

START_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 120.0

# Vehicles slower than this stand in a queue; SUMO's own definition of waiting.
HALTING_M_S = 0.1
# Debian and Ubuntu packages of the system libraries libsumo links to.
SYSTEM_PACKAGES = {
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libGL": "libgl1",
    "libatomic": "libatomic1",
    "libexpat": "libexpat1",
}


@dataclass(frozen=True)
class EpisodeRequest:
    """What to simulate and what to watch. Times in seconds, distances in metres from the stop line."""

    net_file: str
    route_file: str
    begin_s: int
    end_s: int
    seed: int
    signal_id: str
    initial_state: str | None
    lanes: tuple[tuple[str, float], ...]
    exits: tuple[str, ...]
    detection_m: float
    near_m: float


@dataclass(frozen=True)
class Trip:
    """One vehicle of the demand, from SUMO's tripinfo; seconds, metres.

    `due_s` is when it wanted to enter. A vehicle that never entered has a departure delay and nothing else.
    """

    id: str
    due_s: float
    duration_s: float
    time_loss_s: float
    depart_delay_s: float
    waiting_s: float
    stops: int
    route_m: float
    speed_factor: float
    inserted: bool
    arrived: bool


@dataclass(frozen=True)
class Snapshot:
    """The intersection at one moment.

    Per incoming lane, within the detection distance: `vehicles` present, `halting` ones, `queued` ones (that have
    stood on this lane, even if they move now), `near` ones (within the near distance) and `waiting_s`, the sum over
    vehicles of the time since each first stood here. Per outgoing lane: `exit_halting`. `digest` chains the position
    and speed of every vehicle at every snapshot of the episode, so two equal digests mean equal histories. `trips` is
    there once the episode is over.
    """

    time_s: int
    vehicles: tuple[int, ...]
    halting: tuple[int, ...]
    queued: tuple[int, ...]
    near: tuple[int, ...]
    waiting_s: tuple[float, ...]
    exit_halting: tuple[int, ...]
    digest: str
    trips: tuple[Trip, ...] | None = None


Order = tuple[str | None, int]
"""A signal state to show (None: leave the shipped plan alone) and for how many seconds."""


class Simulation:
    """The trainer's end: starts episodes and gives orders, one episode at a time."""

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise ConfigError(
                "The traffic simulation needs fork, which this system does not have.",
                next_step="run it on Linux, macOS or under WSL.",
            )
        self._connection, theirs = Pipe()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the trainer alone, which ends this one in order
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
            )
        self._close = weakref.finalize(self, _end, self._connection, self._server, os.getpid())
        self._in_episode = False
        self.sumo_version = str(self._answer(START_TIMEOUT_S))

    def start(self, request: EpisodeRequest) -> Snapshot:
        """Begin a new episode, abandoning the current one.

        Raises:
            RunError: the simulator refused, died or did not answer in time.
        """
        if self._in_episode:
            self._send(None)
        self._send(request)
        self._in_episode = True
        return self._snapshot(START_TIMEOUT_S)

    def advance(self, orders: Sequence[Order]) -> Snapshot:
        """Carry out `orders` and look. The last snapshot of the episode carries its trips.

        Raises:
            RunError: no episode runs, or the simulator died or did not answer in time.
        """
        if not self._in_episode:
            raise RunError("No traffic episode runs.", next_step="call reset() first.")
        self._send(list(orders))
        return self._snapshot(STEP_TIMEOUT_S)

    def close(self) -> None:
        """End both processes. Closing twice is fine."""
        self._close()

    def _send(self, message: EpisodeRequest | list[Order] | None) -> None:
        if not self._close.alive:
            raise RunError("This traffic simulation is closed.")
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._lost() from error

    def _snapshot(self, timeout_s: float) -> Snapshot:
        snapshot = self._answer(timeout_s)
        assert isinstance(snapshot, Snapshot)
        self._in_episode = snapshot.trips is None
        return snapshot

    def _answer(self, timeout_s: float) -> Any:
        """The next message. Whatever goes wrong here closes the simulation: question and answer may be out of step."""
        try:
            if not self._connection.poll(timeout_s):
                raise _broken(f"SUMO did not answer within {timeout_s:.0f} s and was stopped.")
            kind, value = self._connection.recv()
            if kind == "failed":
                raise _broken(*value)
        except (EOFError, OSError) as error:
            raise self._lost() from error
        except BaseException:
            self.close()
            raise
        return value

    def _lost(self) -> RunError:
        self.close()
        return _broken(f"The process that runs SUMO is gone (exit code {self._server.returncode}).")


def _broken(what: str, next_step: str = "run the command again; it resumes from the latest checkpoint.") -> RunError:
    return RunError(what, safe="checkpoints are not touched.", next_step=next_step)


def _end(connection: Connection, server: subprocess.Popen[bytes], owner: int) -> None:
    """Kill server and episode: they hold nothing worth saving. A forked copy of the trainer does not own them."""
    connection.close()
    if os.getpid() == owner:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)


# --- inside the server and its forks ----------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Load libsumo, then fork one process for each episode asked for, until the trainer is gone."""
    with Connection(descriptor) as connection:
        try:
            import libsumo  # noqa: F401  # loaded once; every fork starts with it
        except ImportError as error:
            _tell(connection, "failed", explain_import_error(error))
            return
        _tell(connection, "ready", _libsumo().getVersion()[1])
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
                    _run_episode(connection, request)
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


def _libsumo() -> Any:
    import libsumo

    return libsumo


def _run_episode(connection: Connection, request: EpisodeRequest) -> None:
    sumo = _libsumo()
    with tempfile.TemporaryFile() as tripinfo:  # unlinked at birth: a killed episode leaves nothing behind
        sumo.start(_options(request, tripinfo.fileno()))
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
                for _ in range(seconds):
                    sumo.simulationStep()
            snapshot = watch.look()
            if snapshot.time_s >= request.end_s:
                sumo.close()
                tripinfo.seek(0)
                rows = ET.parse(tripinfo).getroot().iter("tripinfo")
                trips = tuple(_trip(row.attrib, request.end_s) for row in rows)
                connection.send(("snapshot", replace(snapshot, trips=trips)))
                return
            connection.send(("snapshot", snapshot))


def _options(request: EpisodeRequest, tripinfo: int) -> list[str]:
    """SUMO's command line: no teleporting, and vehicles enter as in SUMO 1.9, the version RESCO was made with."""
    return [
        "sumo",
        f"--net-file={request.net_file}",
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
        vehicle = self._sumo.vehicle
        for name in vehicle.getIDList():
            x, y = vehicle.getPosition(name)
            self._digest.update(name.encode() + struct.pack("<3d", x, y, vehicle.getSpeed(name)))
        self._digest.update(struct.pack("<d", now))
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
