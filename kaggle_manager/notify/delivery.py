"""Delivers one message through child processes, so that nothing a service or a hook does can hold this one up.

Promises: both children run side by side, and at the limit they are killed with everything they started. What they
print never reaches the console. They read from an unlinked temporary file, so no argument list shows an address.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# The apprise child gives up this much before it would be killed, so that what it did deliver is known.
GRACE_S = 1.5
# Of the document that a hook reads: another number once a field is removed, renamed or means something else.
HOOK_SCHEMA = 1
_APPRISE_CHILD = Path(__file__).with_name("apprise_worker.py")
_Call = tuple[list[str], str, dict[str, str]]  # a command, its standard input, its environment
_SEVERITY = {
    "run_finished": "success",
    "person_needed": "warning",
    "forecast_slipped": "warning",
    "incompatible_checkpoint": "failure",
}


@dataclass(frozen=True)
class Message:
    """One message; `data` is for programs."""

    occasion: str
    title: str
    body: str
    data: Mapping[str, Any]


def deliver(message: Message, addresses: Sequence[str], hook: Sequence[str], *, limit_s: float) -> list[str]:
    """Why each target did not get the message, "" when it did: the addresses in their order, then the hook."""
    deadline = time.monotonic() + limit_s
    with contextlib.ExitStack() as children:
        calls = [_apprise_call(message, addresses, limit_s - GRACE_S)] if addresses else []
        calls += [_hook_call(message, hook)] if hook else []
        started = [children.enter_context(_Child(*call)) for call in calls]
        failures = [child.failure(deadline) for child in started]
        if not addresses:
            return failures
        of_addresses = [failures[0]] * len(addresses) if failures[0] else json.loads(started[0].output())
        return [*of_addresses, *failures[1:]]


def _apprise_call(message: Message, addresses: Sequence[str], limit_s: float) -> _Call:
    order = {
        "addresses": list(addresses),
        "title": message.title,
        "body": message.body,
        "severity": _SEVERITY.get(message.occasion, "info"),
        "until": time.time() + limit_s,  # a clock that two processes share
    }
    # -P: the child's own folder must not stand before the libraries it imports.
    return [sys.executable, "-P", str(_APPRISE_CHILD)], json.dumps(order), dict(os.environ)


def _hook_call(message: Message, hook: Sequence[str]) -> _Call:
    said = {"occasion": message.occasion, "title": message.title, "body": message.body, "data": dict(message.data)}
    # The same for a message that is sent again, so that a receiver can leave out what it has.
    event_id = hashlib.sha256(json.dumps(said, default=str, sort_keys=True).encode()).hexdigest()[:32]
    document = {"schema": HOOK_SCHEMA, "event_id": event_id, **said}
    return list(hook), json.dumps(document, default=str), {**os.environ, "KM_OCCASION": message.occasion}


class _Child:
    """A process with a document on its standard input; leaving the context ends it and all it started."""

    def __init__(self, command: list[str], document: str, environ: dict[str, str]) -> None:
        self._command, self._document, self._environ = command, document, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._never_started = ""
        self._files = contextlib.ExitStack()

    def __enter__(self) -> _Child:
        given, self._printed = self._file(), self._file()
        given.write(self._document.encode())
        given.seek(0)
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=given,
                stdout=self._printed,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._never_started = getattr(error, "strerror", None) or type(error).__name__
        return self

    def __exit__(self, *reason: object) -> None:
        if self._process is not None and self._process.poll() is None:
            _kill_with_children(self._process)
        self._files.close()

    def failure(self, deadline: float) -> str:
        """Wait for its end; why it failed, or ""."""
        if self._process is None:
            return f"it could not be started: {self._never_started}"
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "no end within the time allowed; it was stopped"
        return f"it ended with exit code {code}" if code else ""

    def output(self) -> bytes:
        """What it printed."""
        self._printed.seek(0)
        return self._printed.read()

    def _file(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile())


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if sys.platform == "win32":
            tree = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(tree, capture_output=True, timeout=GRACE_S, check=False)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(GRACE_S)
