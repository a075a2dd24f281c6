"""SUMO in a process of its own, as in the first study's `simulation.py`, which says why; here with packed messages.

    trainer  --socket-->  server: imports libsumo, waits  --fork-->  episode: serves the same socket, then exits

Promises: an episode is a function of its request and of the orders it received, in any process on the same machine;
every wait is bounded, by the socket itself and not by a call for each message; a simulator that cannot start or dies is
a `RunError` that says why. Never imports libsumo here: `episode_server.py` is the other end.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import weakref
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from kaggle_manager.errors import ConfigError, RunError
from validation_ch7.section_7_6_rl_performance.second_study.messages import (
    ABANDON,
    FAILED,
    LOOK,
    REQUEST,
    TRIPS,
    EpisodeRequest,
    Snapshot,
    pack_order,
    read_look,
)

SERVER = "validation_ch7.section_7_6_rl_performance.second_study.episode_server"
ANSWER_TIMEOUT_S = 120


class Simulation:
    """The trainer's end: starts episodes and gives orders, one episode at a time."""

    def __init__(self) -> None:
        if not hasattr(os, "fork"):
            raise ConfigError(
                "The traffic simulation needs fork, which this system does not have.",
                next_step="run it on Linux, macOS or under WSL.",
            )
        self._connection, theirs = Pipe()
        _bound_reads(self._connection)
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
        self._request: EpisodeRequest | None = None
        self.sumo_version = self._answer()[1:].decode()

    def start(self, request: EpisodeRequest) -> Snapshot:
        """Begin a new episode, abandoning the current one.

        Raises:
            RunError: the simulator refused, died or did not answer in time.
        """
        if self._request is not None:
            self._send(ABANDON)
        self._send(REQUEST + pickle.dumps(request))
        self._request = request
        return self._look(request)

    def advance(self, wanted: int, seconds: int) -> Snapshot:
        """Ask for green `wanted` for `seconds`, and look. The last snapshot of an episode may carry its trips.

        Raises:
            RunError: no episode runs, or the simulator died or did not answer in time.
        """
        if self._request is None:
            raise RunError("No traffic episode runs.", next_step="call reset() first.")
        self._send(pack_order(wanted, seconds))
        return self._look(self._request)

    def close(self) -> None:
        """End both processes. Closing twice is fine."""
        self._close()

    def _look(self, request: EpisodeRequest) -> Snapshot:
        message = self._answer()
        assert message.startswith(LOOK)
        snapshot = read_look(message, len(request.approaches), len(request.exits))
        if snapshot.time_s < request.end_s:
            return snapshot
        self._request = None
        if not request.trips:
            return snapshot
        trips = self._answer()
        assert trips.startswith(TRIPS)
        return replace(snapshot, trips=pickle.loads(trips[1:]))

    def _send(self, message: bytes) -> None:
        if not self._close.alive:
            raise RunError("This traffic simulation is closed.")
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise self._lost() from error

    def _answer(self) -> bytes:
        """The next message. Whatever goes wrong here closes the simulation: question and answer may be out of step."""
        try:
            message = self._connection.recv_bytes()
            if message.startswith(FAILED):
                raise _broken(*pickle.loads(message[1:]))
        except BlockingIOError as error:
            self.close()
            raise _broken(f"SUMO did not answer within {ANSWER_TIMEOUT_S} s and was stopped.") from error
        except (EOFError, OSError) as error:
            raise self._lost() from error
        except BaseException:
            self.close()
            raise
        return message

    def _lost(self) -> RunError:
        self.close()
        return _broken(f"The process that runs SUMO is gone (exit code {self._server.returncode}).")


def _bound_reads(connection: Connection) -> None:
    """A read that waits too long ends with BlockingIOError: what `poll` would do with three calls for each message."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", ANSWER_TIMEOUT_S, 0))


def _broken(what: str, next_step: str = "run the command again; it resumes from the latest checkpoint.") -> RunError:
    return RunError(what, safe="checkpoints are not touched.", next_step=next_step)


def _end(connection: Connection, server: subprocess.Popen[bytes], owner: int) -> None:
    """Kill server and episode: they hold nothing worth saving. A forked copy of the trainer does not own them."""
    connection.close()
    if os.getpid() == owner:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)
