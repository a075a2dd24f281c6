#!/usr/bin/env python3
"""What one pass (`tick`) costs beside a run of many sessions: CPU time, and SQL statements of its journal.

Each run has N closed sessions, with the events that a real one leaves, and one session that really runs on a local
Kaggle: a pass asks for its status and reads its log over HTTP. What matters is the ratio: the cost of a pass must not
grow with the length of a run. The journal alone is counted in SQL statements. The server's own work is not counted.

    python scripts/benchmarks/pass_cost.py
    python scripts/benchmarks/pass_cost.py --sessions 100 300 700 --passes 40
"""

from __future__ import annotations

import argparse
import io
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import SessionRef, SessionRequest
from kaggle_manager.runs.journal import Journal, RunRow, SessionRow
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.system.formatting import iso

SECTION = "long_run"
MOST_GROWTH = 1.5
BEGAN = 1_780_000_000.0
SESSION_S = 11 * 3600.0
STEPS = 1000
SEEN = {"state": "RUNNING", "lines": 900, "step": 10, "steps_per_s": 35.0, "last_line_at": BEGAN, "reward": -1.5}
FACTS = {
    "planned": {"timeout_s": 43200.0, "deadline_s": 41000.0, "steps": STEPS},
    "seen": SEEN,
    "gained": STEPS,
    "ran_s": SESSION_S,
    "lost_s": 12.0,
    "counts": {"updates": 250, "evaluations": 4, "checkpoints": 10},
    "timings": {"install": 30.0, "setup": 10.0, "train": 38000.0, "evaluate": 900.0, "save": 20.0, "total": 39000.0},
    "ending_s": 60.0,
}
KERNEL = """
import time
print("KM_BUNDLE sha256=" + "b" * 64, flush=True)
time.sleep(3600)
"""
EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("quota", {"left_s": 90_000.0, "total_s": 108_000.0, "refresh_at": BEGAN}),
    ("forecast", {"done_at": iso(BEGAN + 9e6), "sessions": 3, "accelerator_s": 1e5}),
    ("submitting", {"manifest_sha256": "a" * 64, "after": 1, "newest": 2, "sizes": {"a": 1}, "looked_at": BEGAN}),
    ("submitted", {}),
    ("pushed", {"version": 1}),
    ("ended", {"status": "COMPLETE"}),
    ("downloaded", {"folder": "somewhere"}),
    ("closed", {"outcome": "completed", "why": "trained to its deadline", **FACTS}),
)


def make_run(folder: Path, sessions: int, running: SessionRef) -> RunConfig:
    """A project with one run of so many closed sessions, and one that runs."""
    new_section(SECTION, folder, algorithm="PPO", timesteps=10**9)
    config = build_config(SECTION, project_root=folder, platform="local", environ={})
    tree = TrainingTree(config.tree, config.scenario_name)
    common: dict[str, Any] = {"target": config.target, "bundle_sha256": "b" * 64, "identity": {}}
    parent = CheckpointStore(tree).save_latest(
        step=sessions * STEPS, files={"model": b"m", "state": b"s"}, lineage=Lineage("run", sessions, None, 0), **common
    )
    names = ("run", SECTION, config.scenario_name, config.target, False, str(config.tree), "local")
    kernel = (running.owner, running.slug)
    with closing(Journal(config.journal)) as journal, journal.together():
        journal.add_run(RunRow(*names, *kernel, iso(BEGAN)))
        for number in range(1, sessions + 2):
            at = BEGAN + number * SESSION_S
            is_over = number <= sessions
            journal.add_session(
                SessionRow(
                    run_id="run",
                    generation=number,
                    stage=Stage.CLOSED if is_over else Stage.PUSHED,
                    parent_sha256=parent.manifest.sha256,
                    min_step=(number - 1) * STEPS,
                    bundle_sha256="b" * 64,
                    baseline_version=str(number - 1),
                    started_at=iso(at),
                    version=str(number + int(running.id)) if is_over else running.id,
                    outcome="interrupted" if is_over else "",
                    step=number * STEPS if is_over else None,
                    ended_at=iso(at + SESSION_S) if is_over else None,
                    facts=FACTS if is_over else {"seen": SEEN},
                )
            )
            for kind, detail in EVENTS if is_over else EVENTS[:4]:
                journal.note("run", number, kind, iso(at), **detail)
    return config


def manager_of(config: RunConfig, client: KaggleClient, owner: str) -> ValidationKaggleManager:
    return ValidationKaggleManager(
        platform="local",
        project_root=config.project_root,
        reporter=Reporter(io.StringIO()),
        connect_to=lambda config: Connection(client, owner, "local", "a benchmark"),
        notifier=Notifier(),
    )


def cost_of(manager: ValidationKaggleManager, passes: int) -> float:
    """Median CPU seconds of a pass."""
    seen = []
    for _ in range(passes + 1):
        began = time.process_time()
        report = manager.tick(SECTION)
        seen.append(time.process_time() - began)
        if report.state != "running":
            raise SystemExit(f"the session was to run, and the run is {report.state}: {report.why}")
    return median(seen[1:])  # the first one imports


def statements_of(manager: ValidationKaggleManager) -> int:
    """SQL statements of one pass."""
    counted: list[str] = []
    connect = sqlite3.connect

    def counting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(counted.append)
        return connection

    sqlite3.connect = counting  # type: ignore[assignment]
    try:
        manager.tick(SECTION)
    finally:
        sqlite3.connect = connect
    return len(counted)


@contextmanager
def running_session() -> Iterator[tuple[KaggleClient, SessionRef]]:
    """A session of a local Kaggle that prints a line and goes on."""
    with tempfile.TemporaryDirectory(prefix="km_pass_kaggle_") as folder:
        server = ensure_running(Path(folder))
        try:
            credentials = Credentials("token", server.username, server.token, "a benchmark")
            client = KaggleClient(credentials, endpoint=server.url)
            push = SessionRequest(client.whoami(), "long-run", KERNEL, session_timeout_s=3600)
            client.start(push)
            yield client, SessionRef(push.owner, push.slug, "1")
        finally:
            stop(server.root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="+", default=[100, 700], help="lengths of the runs")
    parser.add_argument("--passes", type=int, default=10, help="passes a run; the median is shown")
    options = parser.parse_args()
    costs = []
    with running_session() as (client, version):
        for sessions in options.sessions:
            with tempfile.TemporaryDirectory(prefix="km_pass_") as folder:
                manager = manager_of(make_run(Path(folder), sessions, version), client, version.owner)
                costs.append(cost_of(manager, options.passes))
                statements = statements_of(manager)
                print(
                    f"{sessions:>5} sessions: {costs[-1] * 1000:6.1f} ms CPU, {statements} SQL statements", flush=True
                )
    growth = costs[-1] / costs[0]
    print(f"a pass at {options.sessions[-1]} sessions costs {growth:.2f} times one at {options.sessions[0]}")
    return 0 if growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    raise SystemExit(main())
