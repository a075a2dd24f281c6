"""What a session costs beside its training, on a Slurm of this machine and on the local Kaggle, in one run.

    python scripts/benchmarks/slurm_session_cost.py                      the table
    python scripts/benchmarks/slurm_session_cost.py --write              and into docs/slurm.md

A DQN on CartPole trains over sessions of so many steps, in turns on both, as many rounds as are asked for; medians over
all sessions. The manager runs as a user's does, and every call that it makes of its platform is timed:

    submit      `start`: the source is handed over, and the platform has named a session
    wait        from there until the manager reads the session's first line
    start-up    in the session, from its first line of Python to the first step: imports, environment, checkpoint
    download    `outputs` and `download`
    inputs      `publish_inputs`: the checkpoint that the next session continues
    a session   all of the run's time that is not training, evaluating or saving, divided by its sessions
    outage      the server stands still while a session trains, and answers again: until the manager knows its state
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from cart_project import SECTION, make_cart  # noqa: E402
from kept_section import commit, replace_section  # noqa: E402
from loopback_slurm import LoopbackSlurm, why_not  # noqa: E402

from kaggle_manager.config import LOCAL_KAGGLE, RunConfig  # noqa: E402
from kaggle_manager.console.reporter import Reporter  # noqa: E402
from kaggle_manager.local_kaggle.launcher import ensure_running, stop  # noqa: E402
from kaggle_manager.notify.notifier import Notifier  # noqa: E402
from kaggle_manager.orchestrator.manager import ValidationKaggleManager  # noqa: E402
from kaggle_manager.platforms.platform import Platform  # noqa: E402
from kaggle_manager.runs.journal import Journal  # noqa: E402
from kaggle_manager.sessions.connection import Connection, connect  # noqa: E402

TITLE = """## What a session costs

The overhead besides training, measured in turns on a one-machine Slurm and on the local Kaggle there. The
[benchmark](../scripts/benchmarks/slurm_session_cost.py) explains each row; on a cluster, add the queue wait."""
ROWS = ("submit", "wait", "start-up", "download", "inputs", "a session", "outage")


@dataclass
class Timed:
    """A platform, and what the manager's calls of it took."""

    client: Platform
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    started_at: float = 0.0
    status_at: float = 0.0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not callable(method):
            return method
        if name == "follow_log":
            return lambda *arguments, **options: self._log(method(*arguments, **options))

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            answer = method(*arguments, **options)
            now = time.monotonic()
            self.took[name].append(now - began)
            if name == "start":
                self.started_at = now
            if name == "status":
                self.status_at = now
            return answer

        return timed

    def _log(self, lines: Iterator[Any]) -> Iterator[Any]:
        for line in lines:
            if self.started_at:
                self.took["wait"].append(time.monotonic() - self.started_at)
                self.started_at = 0.0
            yield line


@dataclass
class Run:
    """One run to its target on one platform; with an outage of so many seconds while its second session trains."""

    folder: Path
    platform: str
    steps: int
    sessions: int
    slurm: LoopbackSlurm
    outage_s: float = 0.0
    timed: Timed | None = None
    recovery_s: list[float] = field(default_factory=list)

    def connect(self, config: RunConfig) -> Connection:
        connection = connect(config)
        self.timed = Timed(connection.client)
        return replace(connection, client=cast("Platform", self.timed))

    def train(self) -> dict[str, list[float]]:
        project = make_cart(self.folder / "project", target=self.steps * self.sessions, every=self.steps)
        outage = threading.Thread(target=self._stand_still, daemon=True)
        if self.outage_s:
            outage.start()
        began = time.monotonic()
        with (self.folder / "said.txt").open("w") as said:
            ValidationKaggleManager(
                platform=self.platform,
                workdir=self.folder / "work",
                project_root=project,
                reporter=Reporter(said),
                connect_to=self.connect,
                check_before_push=lambda config, reporter, stated: None,
                notifier=Notifier(),
            ).run_validation_section(SECTION, max_steps=self.steps)
        whole = time.monotonic() - began
        if self.outage_s:
            outage.join()
            return {"outage": self.recovery_s}
        with closing(Journal.to_read(self.folder / "work/journal.sqlite")) as journal:
            (run,) = journal.runs()
            timings = [session.facts["timings"] for session in journal.sessions(run.run_id)]
        assert self.timed is not None
        took = self.timed.took
        trained = sum(each.get(name, 0.0) for each in timings for name in ("train", "evaluate", "save"))
        return {
            "submit": took["start"],
            "wait": took["wait"],
            "start-up": [each.get("install", 0.0) + each["setup"] for each in timings],
            "download": [sum(pair) for pair in zip(took["outputs"], took["download"], strict=False)],
            "inputs": took["publish_inputs"],
            "a session": [(whole - trained) / len(timings)],
        }

    def _stand_still(self) -> None:
        while self.timed is None or len(self.timed.took["wait"]) < 2:
            time.sleep(0.05)
        if self.platform == "slurm":
            self.slurm.controller_hangs()
            time.sleep(self.outage_s)
            self.slurm.controller_answers()
        else:
            server = ensure_running(self.folder / "work" / LOCAL_KAGGLE).pid
            os.kill(server, signal.SIGSTOP)
            time.sleep(self.outage_s)
            os.kill(server, signal.SIGCONT)
        back = time.monotonic()
        while self.timed.status_at < back:
            time.sleep(0.01)
        self.recovery_s.append(self.timed.status_at - back)


def measured(slurm: LoopbackSlurm, platform: str, steps: int, sessions: int, outage_s: float) -> dict[str, list[float]]:
    folder = Path(tempfile.mkdtemp(prefix="km_session_cost_"))
    try:
        return Run(folder, platform, steps, sessions, slurm, outage_s).train()
    finally:
        if platform == "local":
            stop(folder / "work" / LOCAL_KAGGLE)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000, help="of a session")
    parser.add_argument("--outage-s", type=float, default=20.0)
    parser.add_argument("--write", action="store_true", help="keep the table in docs/slurm.md")
    options = parser.parse_args()
    if why := why_not():
        sys.exit(why)
    platforms = {"Slurm": "slurm", "the local Kaggle": "local"}
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in platforms}
    slurm = LoopbackSlurm()
    try:
        slurm.start()
        os.environ.update({name: slurm.environment[name] for name in ("SLURM_CONF", "PATH")})
        for number in range(options.rounds + 1):
            outage_s = options.outage_s if number == options.rounds else 0.0
            for name, platform in platforms.items():
                for row, seconds in measured(slurm, platform, options.steps, options.sessions, outage_s).items():
                    found[name][row] += seconds
    finally:
        slurm.stop()
    lines = [f"| seconds | {' | '.join(platforms)} |", f"|---|{'---|' * len(platforms)}"]
    for row in ROWS:
        each = [statistics.median(found[name][row]) for name in platforms]
        lines.append(f"| {row} | {' | '.join(f'{seconds:.1f}' for seconds in each)} |")
    print("\n".join(lines))
    if options.write:
        command = f"python scripts/benchmarks/slurm_session_cost.py{''.join(f' {word}' for word in sys.argv[1:])}"
        what = f"`{command}` at {commit()}; medians of {options.rounds * options.sessions} sessions on each."
        replace_section("slurm_session_cost", TITLE, [what, "", *lines], ROOT / "docs/slurm.md")


if __name__ == "__main__":
    main()
