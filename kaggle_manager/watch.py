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
from functools import partial
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
# How often trouble that lasts is told again.
REMIND_EVERY_S = 60.0
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
    bundle_sha256: str,
    clock: Callable[[], float] = time.monotonic,
    random_share: Callable[[], float] = random.random,
) -> KernelStatus:
    """Return the final status of exactly this version, once the platform reports one.

    Args:
        bundle_sha256: the code that was built; a session that says it runs other code is reported at once.

    Raises:
        AuthError: the credentials stopped working.
        NotFound: Kaggle has denied this session for ten minutes: its kernel was deleted, or is somebody else's.
        KeyboardInterrupt: passed on; the session is left alone.
    """
    reader = _LogReader(client, version)
    reader.start()
    show = partial(_show_new_lines, reader, reporter, bundle_sha256)
    started = clock()
    pace, next_poll, last_state, said_trouble = FIRST_POLL_S, started, "", ""
    hurried, unknown_since, said_at = False, 0.0, started
    try:
        while True:
            show(wait_s=min(0.5, max(0.0, next_poll - clock())))
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
                if error.message != said_trouble or clock() - said_at > REMIND_EVERY_S:
                    reporter.warn(
                        f"the status could not be read and is asked again: {error.message} The session is not touched "
                        f"by this; watched for {duration(clock() - started)} so far, Ctrl-C is safe"
                    )
                    said_trouble, said_at = error.message, clock()
            else:
                said_trouble, unknown_since = "", 0.0
                if status.state.is_terminal:
                    # What is left of the log; a stream that hangs is not waited for long.
                    reader.ended.wait(timeout=5.0)
                    show(wait_s=0.0)
                    return status
                if status.state.name != last_state:
                    last_state = status.state.name
                    reporter.line(f"  session {version.ref} is {last_state} (after {duration(clock() - started)})")
            # Full jitter keeps several managers from asking in step.
            pace = min(SLOWEST_POLL_S, pace * GROWTH)
            next_poll = clock() + max(FIRST_POLL_S, random_share() * pace)
    finally:
        reader.stopping.set()


def _show_new_lines(reader: _LogReader, reporter: Reporter, bundle_sha256: str, *, wait_s: float) -> None:
    try:
        line = reader.lines.get(timeout=wait_s) if wait_s > 0 else reader.lines.get_nowait()
        while True:
            show_line(line.text, reporter, bundle_sha256)
            line = reader.lines.get_nowait()
    except queue.Empty:
        return


def show_line(text: str, reporter: Reporter, bundle_sha256: str) -> None:
    """Show one line of a kernel's log, whatever it holds."""
    event = parse_event(text)
    if event is None:
        reporter.kernel(text)
    elif event.kind == "KM_PROGRESS":
        reporter.status(_progress(event.data))
    elif event.kind == "KM_EVAL":
        reporter.kernel(_evaluation(event.data))
    elif event.kind == "KM_BUNDLE":
        code = event.data["sha256"]
        reporter.kernel(f"runs code sha256 {code[:12]}…")
        if code != bundle_sha256:
            reporter.warn(
                f"this session runs other code ({code[:12]}…) than was built ({bundle_sha256[:12]}…): "
                "what it leaves will be refused; deleting the kernel on Kaggle ends it"
            )
    # The other events are for this program: what they say is shown in words where it is verified.


def _evaluation(data: Mapping[str, Any]) -> str:
    best = ", the best so far" if data.get("best") else ""
    cost = f"{data.get('episodes', '?')} episodes in {data.get('seconds', '?')} s"
    return f"evaluated at step {data.get('step', '?')}: mean reward {_number(data.get('score'), '.3f')} ({cost}){best}"


def _progress(data: Mapping[str, Any]) -> str:
    parts = [f"step {data.get('step', '?')}/{data.get('target', '?')}"]
    if (speed := data.get("steps_per_s")) is not None:
        parts.append(f"{_number(speed, '.0f')} steps/s")
    if (reward := data.get("reward")) is not None:
        parts.append(f"reward {_number(reward, '.3g')}")
    if (checkpoint := data.get("checkpoint")) is not None:
        parts.append(f"last checkpoint {checkpoint}")
    return " · ".join(parts)


def _number(value: Any, form: str) -> str:
    try:
        return format(float(value), form)
    except (TypeError, ValueError, OverflowError):  # a log may say anything
        return "not a number"
