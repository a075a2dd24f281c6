"""Watch one session to its end: its log live, its status at a pace that follows the phase.

A failed poll is never a verdict, UNKNOWN is never an end. The end of the log asks for the status at once, so waiting
costs few requests. Stopping to watch never stops the session.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kaggle_manager.errors import AuthError, KaggleManagerError, NotFound, RemoteError
from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.log_stream import LogLine, follow_log, parse_event
from kaggle_manager.kaggle_api.models import KernelStatus, KernelVersion
from kaggle_manager.progress import Reporter, duration

# Seconds between two polls: brisk while a session starts or ends, slow while the log shows it running.
FIRST_POLL_S = 1.0
SLOWEST_POLL_S = 60.0
GROWTH = 1.5
# A session Kaggle has denied for this long does not exist (any more).
UNKNOWN_FOR_S = 600.0
# A log stream that broke is opened again after this long.
LOG_RETRY_S = 10.0


class _LogReader(threading.Thread):
    """Reads the log stream into a queue, so that a silent stream never delays the polls."""

    def __init__(self, client: KaggleClient, version: KernelVersion) -> None:
        super().__init__(name=f"log of {version.ref}", daemon=True)
        self._client, self._version = client, version
        self.stopping = threading.Event()
        self.lines: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
        self.ended = threading.Event()

    def run(self) -> None:
        shown = 0
        while not self.stopping.is_set():
            try:
                for line in follow_log(self._client, self._version, stop=self.stopping.is_set):
                    if line.index >= shown:  # a stream that is opened anew begins with the first line again
                        self.lines.put(line)
                        shown = line.index + 1
                self.ended.set()
                return
            except KaggleManagerError:
                # The log is a convenience: the status polls go on, and the log is in the outputs as well.
                self.stopping.wait(LOG_RETRY_S)


def watch(
    client: KaggleClient,
    version: KernelVersion,
    reporter: Reporter,
    *,
    clock: Callable[[], float] = time.monotonic,
    random_share: Callable[[], float] = random.random,
) -> KernelStatus:
    """Return the final status of exactly this version, once the platform reports one.

    Raises:
        AuthError: the credentials stopped working.
        NotFound: Kaggle has denied this session for ten minutes: its kernel was deleted, or is somebody else's.
        KeyboardInterrupt: passed on; the session is left alone.
    """
    reader = _LogReader(client, version)
    reader.start()
    started = clock()
    pace, next_poll, last_state, said_trouble = FIRST_POLL_S, started, "", ""
    hurried, unknown_since = False, 0.0
    try:
        while True:
            _show_new_lines(reader, reporter, wait_s=min(0.5, max(0.0, next_poll - clock())))
            if reader.ended.is_set() and not hurried:
                hurried, pace, next_poll = True, FIRST_POLL_S, clock()
            if clock() < next_poll:
                continue
            try:
                status = client.kernel_status(version)
            except AuthError:
                raise
            except (RemoteError, NotFound) as error:
                # Kaggle may not know a session yet in the minutes after its push.
                unknown_since = unknown_since or clock() if isinstance(error, NotFound) else 0.0
                if unknown_since and clock() - unknown_since > UNKNOWN_FOR_S:
                    raise
                if error.message != said_trouble:
                    reporter.warn(f"the status could not be read and will be asked again: {error.message}")
                    said_trouble = error.message
            else:
                said_trouble, unknown_since = "", 0.0
                if status.state.is_terminal:
                    _drain(reader, reporter)
                    return status
                if status.state.name != last_state:
                    last_state = status.state.name
                    reporter.line(f"  session {version.ref} is {last_state} (after {duration(clock() - started)})")
            # Full jitter keeps several managers from asking in step.
            pace = min(SLOWEST_POLL_S, pace * GROWTH)
            next_poll = clock() + max(FIRST_POLL_S, random_share() * pace)
    finally:
        reader.stopping.set()


def _show_new_lines(reader: _LogReader, reporter: Reporter, *, wait_s: float) -> None:
    try:
        line = reader.lines.get(timeout=wait_s) if wait_s > 0 else reader.lines.get_nowait()
        while True:
            _show(line, reporter)
            line = reader.lines.get_nowait()
    except queue.Empty:
        return


def _drain(reader: _LogReader, reporter: Reporter) -> None:
    """Show what is left of the log once the session is over; a stream that hangs is not waited for long."""
    reader.ended.wait(timeout=5.0)
    _show_new_lines(reader, reporter, wait_s=0.0)


def _show(line: LogLine, reporter: Reporter) -> None:
    event = parse_event(line.text)
    if event is None:
        reporter.kernel(line.text)
    elif event.kind == "KM_PROGRESS":
        reporter.status(_progress(event.data))
    elif event.kind == "KM_EVAL":
        reporter.kernel(_evaluation(event.data))
    elif event.kind == "KM_BUNDLE":
        reporter.kernel(f"runs code sha256 {event.data['sha256'][:12]}…")
    # The other events are for this program: what they say is shown in words where it is verified.


def _evaluation(data: Mapping[str, Any]) -> str:
    best = ", the best so far" if data.get("best") else ""
    cost = f"{data.get('episodes', '?')} episodes in {data.get('seconds', '?')} s"
    score = data.get("score")
    shown = f"{score:.3f}" if isinstance(score, int | float) else "not a number"
    return f"evaluated at step {data.get('step', '?')}: mean reward {shown} ({cost}){best}"


def _progress(data: Mapping[str, Any]) -> str:
    parts = [f"step {data.get('step', '?')}/{data.get('target', '?')}"]
    if isinstance(speed := data.get("steps_per_s"), int | float):
        parts.append(f"{speed:.0f} steps/s")
    if isinstance(reward := data.get("reward"), int | float):
        parts.append(f"reward {reward:.3g}")
    if (checkpoint := data.get("checkpoint")) is not None:
        parts.append(f"last checkpoint {checkpoint}")
    return " · ".join(parts)
