"""One session's supervisor: `python -m kaggle_manager.local_kaggle.runner SESSION_FOLDER`.

It outlives the server that started it, enforces the limits itself, and speaks through files in the session folder:

    order.json     in    what to run (written by the server before the start)
    cancel         in    its existence asks for the end of the session
    runner.lock    out   held as long as this process lives
    started.json   out   {"pid", "started_at"}: the session is running
    log.jsonl      out   one {"stream_name", "time", "data"} a line, in the order they were printed
    verdict.json   out   {"status", "failure", "exit_code", "ended_at"}: written last, once, after every process is gone

No verdict and a free lock mean that the runner died; the kernel dies with it. Standard library only.
"""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from kaggle_manager.local_kaggle import disk, sandbox
from kaggle_manager.local_kaggle.faults import session_faults
from kaggle_manager.system import process_group
from kaggle_manager.system.files import size_below

# What users report of a session past its limit, with the state of one that was cancelled.
TIMED_OUT = "Your notebook was stopped because it exceeded the max allowed execution duration."
_POLL_S = 0.1
_SIZE_CHECK_S = 2.0
_LONGEST_PIECE = 64 * 1024  # a line longer than this is logged in pieces


class Log:
    """The session's log file, fed by several threads."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def write(self, stream_name: str, data: str) -> None:
        event = {"stream_name": stream_name, "time": round(time.monotonic() - self._start, 6), "data": data}
        with self._lock:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()

    def close(self) -> None:
        with self._lock:
            self._stream.close()

    def follow(self, stream_name: str, pipe: IO[bytes]) -> threading.Thread:
        """Log what comes through `pipe`, line by line, until everyone has closed it."""
        thread = threading.Thread(target=self._copy, args=(stream_name, pipe), daemon=True)
        thread.start()
        return thread

    def _copy(self, stream_name: str, pipe: IO[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pending = ""
        while chunk := os.read(pipe.fileno(), 64 * 1024):
            *lines, pending = (pending + decoder.decode(chunk)).split("\n")
            for line in lines:
                self.write(stream_name, line + "\n")
            if len(pending) > _LONGEST_PIECE:
                self.write(stream_name, pending)
                pending = ""
        pending += decoder.decode(b"", final=True)
        if pending:
            self.write(stream_name, pending)


class End(NamedTuple):
    """How a session ended."""

    status: str
    failure: str = ""
    at_limit: bool = False


def _watch(process: subprocess.Popen[bytes], order: dict[str, Any]) -> End:
    """Wait for the first thing that ends the session."""
    session, limit_s, output_bytes = Path(order["session"]), order["limit_s"], order["output_bytes"]
    ended = threading.Event()

    def wait() -> None:
        process.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    deadline = time.monotonic() + limit_s
    next_size_check = time.monotonic() + _SIZE_CHECK_S
    too_large = f"The output is larger than {output_bytes} bytes."
    while not ended.wait(_POLL_S):
        now = time.monotonic()
        if (session / "cancel").exists():
            return End("CANCEL_ACKNOWLEDGED", "The session was cancelled.")
        if now >= deadline:
            return End("CANCEL_ACKNOWLEDGED", TIMED_OUT, True)
        if now >= next_size_check:
            if size_below(session / "working") > output_bytes:
                return End("ERROR", too_large)
            next_size_check = now + _SIZE_CHECK_S
    if process.returncode != 0:
        return End("ERROR", f"The kernel ended with exit code {process.returncode}.")
    if size_below(session / "working") > output_bytes:
        return End("ERROR", too_large)
    return End("COMPLETE")


def run(session: Path) -> None:
    """Run the session in `session` to its verdict. The caller holds its lock."""
    order = disk.read_json(session / "order.json")
    log = Log(session / "log.jsonl")
    disk.write_json(session / "started.json", {"pid": os.getpid(), "started_at": time.time()})
    if not order["isolation"]:
        log.write("stderr", "This machine does not allow namespaces: inputs are writable and the network is not cut.\n")
    group = process_group.start(sandbox.command(order), working=session / "working", environment=order["environment"])
    process = group.process
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [log.follow("stdout", process.stdout), log.follow("stderr", process.stderr)]
    if order["filled_after_s"] is not None:
        filling = threading.Timer(order["filled_after_s"], session_faults.fill, (order["mounts"],))
        filling.daemon = True
        filling.start()
    end = _watch(process, order)
    group.kill()
    for reader in readers:
        reader.join(timeout=10)
    log.close()
    if end.at_limit and order["erased_at_limit"]:
        session_faults.erase(order)
    sandbox.clear(session, order)
    verdict = {
        "status": end.status,
        "failure": end.failure,
        "exit_code": process.returncode,
        "ended_at": time.time(),
    }
    disk.write_json(session / "verdict.json", verdict)


def main() -> None:
    session = Path(sys.argv[1])
    with disk.hold(session / "runner.lock", wait_s=30) as mine:
        if mine and not (session / "verdict.json").exists():
            run(session)


if __name__ == "__main__":
    main()
