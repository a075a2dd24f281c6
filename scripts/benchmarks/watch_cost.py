"""What watching one 12 h session costs the machine that watches: CPU-seconds and requests.

A real session of the local Kaggle prints a progress line every ten seconds, 4,320 in all; the real `watch` follows its
log over HTTP and asks for its status. Only time is compressed: kernel and watcher live on a clock that runs `--speed`
times as fast, so all that happens in 12 h happens, in about a minute. The server's own work is not counted. The live
line of a terminal draws by real time, so its frames of 12 h are drawn one after the other, and counted as well.

    python scripts/benchmarks/watch_cost.py
    python scripts/benchmarks/watch_cost.py --hours 12 --speed 600 --json
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests

from kaggle_manager.console.live_line import FRAMES_PER_S
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.log_stream import follow_log
from kaggle_manager.platforms.platform import LogLine, SessionRequest
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.sessions.log_reader import LogQueue
from kaggle_manager.sessions.watch import watch

BOUND_CPU_S = 50.0
LINE_EVERY_S = 10.0
CODE = "c" * 64
TAG = session_tag("benchmark", 1)
KERNEL = """
import json, time
begun, pause, lines = time.monotonic(), PAUSE, LINES

def tell(kind, **values):
    print(f'\\n{kind} {json.dumps({"session": "TAG", **values})}', flush=True)

tell("KM_BUNDLE", sha256="CODE")
for number in range(1, lines + 1):
    time.sleep(max(0.0, begun + number * pause - time.monotonic()))
    progress = {"step": number * 350, "target": lines * 350, "steps_per_s": 35.0, "reward": -1.5, "checkpoint": 350}
    tell("KM_PROGRESS", **progress)
result = {"run_id": "benchmark", "generation": 1, "bundle_sha256": "CODE", "outcome": "completed", "reason": ""}
tell("KM_RESULT", **result, exit_code=0, step=lines * 350, output_files=0)
"""


class FastTime:
    """A clock that runs `speed` times as fast, and the wait that belongs to it."""

    def __init__(self, speed: float) -> None:
        self.speed, self.wakeups = speed, 0

    def clock(self) -> float:
        return time.monotonic() * self.speed

    def wait(self, lines: LogQueue, seconds: float) -> LogLine | None:
        self.wakeups += 1
        try:
            return lines.get_nowait()
        except queue.Empty:
            if seconds <= 0:
                raise
        return lines.get(timeout=seconds / self.speed)


def counted_requests(client: KaggleClient) -> Counter[str]:
    """How many requests this client sends, by the last part of their path, from now on."""
    asked: Counter[str] = Counter()
    send = client.transport._session.send

    def counting(request: requests.PreparedRequest, **options: Any) -> requests.Response:
        asked[str(request.path_url).split("?")[0].rsplit("/", 1)[-1]] += 1
        return send(request, **options)

    client.transport._session.send = counting
    return asked


def live_line_cost(session_s: float) -> tuple[int, float]:
    """(frames, CPU-seconds) of the live line over a session whose phase never changes, which draws the most."""
    frames = round(session_s * FRAMES_PER_S)
    master, slave = os.openpty()
    reader = threading.Thread(target=_drain, args=(master,), daemon=True)
    reader.start()
    with os.fdopen(slave, "w", encoding="utf-8") as stream, Reporter(stream) as reporter:
        text = "step 151200/1512000 · target in 10 h 48 min · 35 steps/s · reward -1.5 · last checkpoint 151000"
        reporter.status(text, share=0.1)
        assert reporter._live is not None
        begun = time.thread_time()
        for _ in range(frames):
            reporter._live.refresh()
        spent = time.thread_time() - begun
    return frames, spent


def _drain(master: int) -> None:
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--speed", type=float, default=600.0, help="how many times as fast the clock runs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    session_s, fast = given.hours * 3600, FastTime(given.speed)
    lines = round(session_s / LINE_EVERY_S)
    source = KERNEL.replace("PAUSE", str(LINE_EVERY_S / given.speed)).replace("LINES", str(lines)).replace("CODE", CODE)
    source = source.replace("TAG", TAG)
    with tempfile.TemporaryDirectory(prefix="watch-cost-") as folder:
        server = ensure_running(Path(folder) / "kaggle", idle_exit_s=3600)
        try:
            token = Credentials("token", None, server.token, "the benchmark")
            with KaggleClient(token, endpoint=server.url) as client, (Path(folder) / "said").open("w") as said:
                version = client.start(SessionRequest(client.whoami(), "km-watch-cost", source)).version
                asked, seen = counted_requests(client), []
                begun, begun_fast = time.process_time(), fast.clock()
                status = watch(
                    client,
                    version,
                    Reporter(said, clock=fast.clock),
                    tag=TAG,
                    bundle_sha256=CODE,
                    on_seen=seen.append,
                    session_s=session_s,
                    clock=fast.clock,
                    wall=fast.clock,
                    random_share=random.Random(1).random,
                    wait=fast.wait,
                )
                cpu_s, watched_s = time.process_time() - begun, fast.clock() - begun_fast
                if status.state.name != "COMPLETE" or seen[-1].step != lines * 350:
                    raise SystemExit(f"not watched to its end: {status}, {seen[-1]}")
                begun = time.process_time()
                replayed = sum(1 for _ in follow_log(client, version, stop=lambda: False))
                replay_s = time.process_time() - begun
        finally:
            stop(server.root)
    frames, frames_cpu_s = live_line_cost(session_s)
    total_s = cpu_s + frames_cpu_s
    found = {
        "schema": 1,
        "hours_watched": round(watched_s / 3600, 2),
        "log_lines": seen[-1].lines,
        "requests": dict(asked),
        "wakeups": fast.wakeups,
        "cpu_s": round(cpu_s, 2),
        "live_line_frames": frames,
        "live_line_cpu_s": round(frames_cpu_s, 2),
        "cpu_s_in_all": round(total_s, 2),
        "cpu_s_of_one_reconnection_at_the_end": round(replay_s, 3),
        "bound_cpu_s": BOUND_CPU_S,
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"watched {found['hours_watched']} h, {seen[-1].lines} log lines, {fast.wakeups} wake-ups")
        print(f"requests: {', '.join(f'{number} {name}' for name, number in asked.items())}")
        print(f"watching          {cpu_s:6.2f} CPU-seconds")
        print(f"the live line     {frames_cpu_s:6.2f} CPU-seconds for {frames} frames")
        print(f"in all            {total_s:6.2f} CPU-seconds; the bound is {BOUND_CPU_S:.0f}")
        print(f"a connection that breaks at the end costs {replay_s:.3f} more: {replayed} lines are sent anew")
    return 0 if total_s < BOUND_CPU_S else 1


if __name__ == "__main__":
    sys.exit(main())
