"""What a session's log costs the machine that downloads it: memory and CPU time for a log without bound.

A server on this machine sends a log of `--megabytes` in each of the ways Kaggle sends one, made while it is sent; the
real client reads it in a process of its own, whose largest resident memory is measured:

    outputs   inside the answer that lists a session's outputs; read, put into lines and written as a download does
    stored    from the address of the log, of a session that has ended
    live      the same, while the session runs
    line      live, and all of it one line

    python scripts/benchmarks/log_memory.py
    python scripts/benchmarks/log_memory.py --megabytes 200 --only outputs --json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.sessions.stored_log import LOG_FILE, write_log

MOST_MB = 150.0
WAYS = ("outputs", "stored", "live", "line")
VERSION = SessionRef("alice", "km-run", "1")
LINES_IN_A_PIECE = 2_000


def pieces(way: str, size: int) -> Iterator[bytes]:
    """The body of an answer with a log of about `size` bytes."""
    events = [
        {"stream_name": "stdout", "time": n * 0.01, "data": f'step {n}: "reward" {n / 3}\n'}
        for n in range(LINES_IN_A_PIECE)
    ]
    if way == "outputs":
        part = json.dumps(",\n".join(map(json.dumps, events)) + ",\n")[1:-1].encode()
        begin, end = b'{"log": "[', rb'{\"data\": \"the end\"}]", "files": [{"fileName": "a.txt", "url": "x"}]}'
    elif way == "stored":
        part = (",\n".join(map(json.dumps, events)) + ",\n").encode()
        begin, end = b"[", b'{"data": "the end"}]'
    elif way == "live":
        part = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
        begin, end = b"", b'data: {"data": "the end"}\n\ndata: END_OF_LOG\n\n'
    else:
        part = b"a long line without an end, " * 5_000
        begin, end = b'data: {"data": "', b'"}\n\ndata: {"data": "the end"}\n\ndata: END_OF_LOG\n\n'
    yield begin
    for _ in range(max(1, size // len(part))):
        yield part
    yield end


def serve(size: int, port: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = self.path.partition("?")[0].rpartition("/")[2]
            self.send_response(200)
            way = "outputs" if name == "ListKernelSessionOutput" else name.removeprefix("km-")
            if way not in WAYS:
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"active": true, "username": "alice"}')
                return
            self.send_header("Content-Type", "text/event-stream" if way in ("live", "line") else "application/json")
            self.end_headers()
            for piece in pieces(way, size):
                self.wfile.write(piece)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_port)
    server.serve_forever()


def read(way: str, port: int, found: Connection) -> None:
    """Read the log as a download or `km logs` does, and tell what that cost this process."""
    import resource

    client = KaggleClient(Credentials("token", None, "KGAT_0123456789", "here"), endpoint=f"http://127.0.0.1:{port}")
    before, began = time.process_time(), time.perf_counter()
    newest, count, files = "", 0, None
    if way == "outputs":
        listing = client.outputs(VERSION)
        files = [file.name for file in listing.files]
        lines = [line.text for line in listing.log]
        newest, count = lines[-1], len(lines)
        with tempfile.TemporaryDirectory() as folder:
            write_log(Path(folder) / LOG_FILE, lines)
    else:
        for line in client.follow_log(SessionRef("alice", f"km-{way}", "1"), stop=lambda: False):
            newest, count = line.text, count + 1
    scale = 1 if sys.platform == "darwin" else 1024
    found.send(
        {
            "way": way,
            "largest_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
            "cpu_s": time.process_time() - before,
            "wall_s": time.perf_counter() - began,
            "lines": count,
            "newest": newest,
            "files": files,
        }
    )


def in_a_process(target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A process of its own, from its first import, and the first thing it says."""
    mine, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, its), daemon=True)
    process.start()
    return process, mine.recv()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2_000)
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    server, port = in_a_process(serve, options.megabytes * 1_000_000)
    found = []
    for way in options.only or WAYS:
        process, measured = in_a_process(read, way, port)
        process.join()
        found.append({"megabytes": options.megabytes, **measured})
        if not options.json:
            print(
                f"{way:8} {options.megabytes:,} MB: {measured['largest_memory_mb']:.0f} MB of memory, "
                f"{measured['cpu_s']:.1f} CPU-seconds, {measured['lines']:,} lines, the last: {measured['newest']!r}",
                flush=True,
            )
    server.terminate()
    if options.json:
        print(json.dumps(found))
    worst = max(each["largest_memory_mb"] for each in found)
    return 0 if worst < MOST_MB and all(each["newest"] == "the end" for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
