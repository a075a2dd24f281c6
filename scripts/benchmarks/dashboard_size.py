#!/usr/bin/env python3
"""What it takes to open the dashboard over many runs and over many sessions: the command, a page, a browser, the file.

    python scripts/benchmarks/dashboard_size.py                 both, in a minute
    python scripts/benchmarks/dashboard_size.py --write         and into docs/dashboard.md

100 runs of 10 sessions are ten campaigns of ten seeds; the other case is one run of 1,000 sessions. Each has real
checkpoints (small ones), journal rows and events, results of its sessions, and curves of 200 evaluations and 2,000
episodes. Seconds are processor time, which other work on the machine does not change: of the command and everything it
has started, and of the page's thread in the browser, which is measured where there is a Chromium. Ends with 1 where
command, first page and browser take 2 s or more.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

import numpy as np  # noqa: E402
from chromium_pipe import Chromium, find_chromium  # noqa: E402
from dashboard_world import BEGAN, add_run, add_session, tree_of  # noqa: E402
from kept_section import commit, replace_section  # noqa: E402

from kaggle_manager.checkpoints import CheckpointStore, Lineage  # noqa: E402
from kaggle_manager.protocol.file_names import RESULT_FILE  # noqa: E402
from kaggle_manager.protocol.session_result import OutputEntry, SessionResult  # noqa: E402
from kaggle_manager.runs.journal import Journal  # noqa: E402
from kaggle_manager.system.formatting import count, iso  # noqa: E402

# Runs, and sessions of each.
CASES = ((100, 10), (1, 1000))
SEEDS = 10
EVALUATIONS, EPISODES = 200, 2_000
PAGES = 3
MOST_S = 2.0
DASHBOARD = [sys.executable, "-m", "kaggle_manager.cli", "dashboard"]


def build(state: Path, runs: int, sessions: int) -> None:
    """A state folder; all but one run of each campaign are finished."""
    with closing(Journal(state / "journal.sqlite")) as journal:
        for number in range(runs):
            run_id, scenario, target = f"{number:08}{'0' * 24}", f"task_{number // SEEDS}", 100 * sessions
            with journal.together():
                add_run(journal, state, run_id, target=target, scenario=scenario, seed=number % SEEDS)
                for generation in range(1, sessions + 1):
                    add_session(journal, run_id, generation, gained=100)
                    _leave_result(state, run_id, generation)
                if number % SEEDS:
                    journal.finish_run(run_id, "finished", iso(BEGAN + 1000 * sessions))
            _save(state, run_id, scenario, target, number)


def _leave_result(state: Path, run_id: str, generation: int) -> None:
    files = tuple(OutputEntry(name=f"training_tree/file_{each}", size=1000, sha256="a" * 64) for each in range(10))
    facts = {"run_id": run_id, "generation": generation, "bundle_sha256": "b" * 64}
    result = SessionResult(outcome="interrupted", exit_code=0, step=100 * generation, files=files, **facts)
    path = state / "downloads" / run_id / f"generation_{generation}" / RESULT_FILE
    path.parent.mkdir(parents=True)
    path.write_text(result.model_dump_json(), encoding="utf-8")


def _save(state: Path, run_id: str, scenario: str, target: int, number: int) -> None:
    tree = tree_of(state, run_id, scenario)
    store, random = CheckpointStore(tree), np.random.default_rng(number)
    identity = {"algorithm": "PPO", "hyperparameters": {f"name_{each}": each for each in range(30)}}
    common = {"target": target, "bundle_sha256": "b" * 64, "identity": identity, "lineage": Lineage(run_id, 1, None, 0)}
    for step in (target - 100, target):
        store.save_latest(step=step, files={"model": b"m" * 5000, "state": b"s" * 1000}, **common)
    store.save_best(step=target, score=1.0, files={"model": b"best"}, **common)
    tree.history.mkdir(parents=True, exist_ok=True)
    steps = np.linspace(1, target, EVALUATIONS).astype(int)
    np.savez(tree.history / "evaluations.npz", timesteps=steps, results=random.normal(size=(EVALUATIONS, 10)))
    ends = np.linspace(1, target, EPISODES).astype(int)
    returns = zip(random.normal(size=EPISODES), ends, strict=True)
    rows = "".join(f"{value:.6f},10,{step},{step}\n" for value, step in returns)
    (tree.history / "monitor.csv").write_text(f'#{{"t_start": 0.0}}\nr,l,t,step\n{rows}')


def seconds_of(process: int) -> float:
    """Processor time of a process so far."""
    used = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(state: Path) -> Iterator[tuple[str, int]]:
    """The address of the page, once the command has said it, and its process."""
    command = [*DASHBOARD, "--no-browser", "--workdir", str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split(" on ")[-1].split()[0], process.pid
        finally:
            process.terminate()


def read(address: str) -> bytes:
    with urlopen(address, timeout=600) as answer:
        found: bytes = answer.read()
        return found


def measure(runs: int, sessions: int) -> tuple[float, dict[str, str]]:
    """Seconds until the first page is there, and the column of the table."""
    with tempfile.TemporaryDirectory() as folder:
        state, file = Path(folder) / "state", Path(folder) / "page.html"
        build(state, runs, sessions)
        with serving(state) as (address, process):
            used = [seconds_of(process)]
            for _ in range(PAGES):
                page = read(address)
                used.append(seconds_of(process))
            started_s, first_s, last_s = used[0], used[1] - used[0], used[-1] - used[-2]
            browser_s = in_chromium(address, Path(folder))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [*DASHBOARD, "--html", str(file), "--workdir", str(state)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wrote_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        column = {
            "from the command to its address": f"{started_s:.2f} s",
            "the first page": f"{first_s:.2f} s",
            "a page later": f"{last_s:.2f} s",
            "the page in Chromium": "–" if browser_s is None else f"{browser_s:.2f} s",
            "size of the page": f"{len(page) / 1000:.0f} kB",
            "`--html`, every run in full": f"{wrote_s:.1f} s, {file.stat().st_size / 1e6:.1f} MB",
        }
    return started_s + first_s + (browser_s or 0.0), column


def in_chromium(address: str, folder: Path) -> float | None:
    """Processor time of the page's thread until it is loaded; None where there is no Chromium."""
    program = find_chromium()
    if program is None:
        return None
    with Chromium(program, folder / "profile") as browser, browser.page(f"{address}static/page.css") as tab:
        tab.call("Performance.enable", timeDomain="threadTicks")
        tab.call("Page.navigate", url=address)
        tab.until("document.readyState === 'complete' && location.pathname === '/'")
        metrics = tab.call("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/dashboard.md")
    asked = parser.parse_args()
    measured = [measure(*case) for case in CASES]
    heads = [f"{count(runs, 'run')} of {count(sessions, 'session')}" for runs, sessions in CASES]
    table = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(CASES)}"]
    for what in measured[0][1]:
        table.append(f"| {what} | {' | '.join(column[what] for _, column in measured)} |")
    print("\n".join(table))
    if asked.write:
        told = f"`python scripts/benchmarks/dashboard_size.py --write` at {commit()}; seconds are processor time."
        replace_section("dashboard size", "", [told, "", *table], ROOT / "docs/dashboard.md")
    return 0 if all(opened_s < MOST_S for opened_s, _ in measured) else 1


if __name__ == "__main__":
    raise SystemExit(main())
