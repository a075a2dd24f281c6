"""SUMO in a process of its own: each episode runs in a fresh fork of a process that has loaded libsumo and run nothing.

Why a fork per episode: libsumo 1.28 does not always reproduce an episode that is not the first of its process, and it
holds one simulation per process. The parent of the forks is a separate interpreter, started by exec, so it is clean
whatever the trainer has imported or however many threads it runs.

    trainer  --socket-->  server: imports libsumo, waits  --fork-->  episode: serves the same socket, then exits

The server waits for its episode to end before it reads again, so exactly one process reads the socket. When the
trainer dies, even by SIGKILL, the socket closes and both leave at once: no zombie, no orphan, no temporary file.

Promises: an episode is a function of its request and of the orders it received, in any process on the same machine;
every wait is bounded; a simulator that cannot start or dies is a `RunError` that says why. Knows nothing of
reinforcement learning, and never imports libsumo here: `episode_server.py` is the other end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

from kaggle_manager.errors import ConfigError, RunError

SERVER = "validation_ch7.section_7_6_rl_performance.episode_server"
START_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class EpisodeRequest:
    """What to simulate and what to watch. Times in seconds, distances in metres from the stop line.

    `program` is a signal plan as a SUMO additional file; SUMO then shows it instead of the network's own.
    """

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
    program: str | None = None


class Trip(NamedTuple):
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
"""A signal state to show (None: leave SUMO's plan alone) and for how many seconds."""


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
                [sys.executable, "-P", "-c", f"from {SERVER} import serve; serve({theirs.fileno()})"],
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
