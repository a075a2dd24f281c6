"""How many sessions of a campaign are live at a time, and how long it takes, with 1, 2 and 5 slots; the same work.

    python scripts/benchmarks/slots.py                      the table, in about five minutes
    python scripts/benchmarks/slots.py --write              and into docs/slots.md

Seeds of a script train on a local Kaggle, each over two sessions; on Kaggle each session has a machine of its own, so a
step here is a wait, which takes no core from the others. What was live when, the local Kaggle's own records say.
"""

from __future__ import annotations

import argparse
import io
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from kept_section import commit, replace_section  # noqa: E402
from script_project import SECTION, ScriptBench  # noqa: E402

from kaggle_manager.config import build_config  # noqa: E402
from kaggle_manager.console.reporter import Reporter  # noqa: E402
from kaggle_manager.local_kaggle.launcher import ensure_running, stop  # noqa: E402
from kaggle_manager.notify.notifier import Notifier  # noqa: E402
from kaggle_manager.orchestrator.campaign import Campaign, seeds_of  # noqa: E402
from kaggle_manager.orchestrator.manager import ValidationKaggleManager  # noqa: E402

STEPS = 40
SLOTS = (1, 2, 5)


@dataclass
class Row:
    """One campaign. `most` and `mean` are of sessions that were live at a time."""

    slots: int
    most: int
    mean: float
    wall_s: float

    def text(self, first: Row) -> str:
        share = first.wall_s / self.wall_s
        return f"| {self.slots} | {self.most} | {self.mean:.1f} | {self.wall_s:.0f} s | {share:.1f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of training, of each seed")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/slots.md")
    asked = parser.parse_args()
    rows: list[Row] = []
    for slots in SLOTS:
        rows.append(row_of(slots, asked.seeds, asked.seconds))
        print(rows[-1].text(rows[0]), flush=True)
    if asked.write:
        told = f"`python scripts/benchmarks/slots.py --seeds {asked.seeds} --seconds {asked.seconds:g} --write` at "
        told += f"{commit()}, on {os.cpu_count()} cores beside other work."
        table = ["| slots | live at a time, at most | on average | until all have their target | times as fast |"]
        table += ["|---|---|---|---|---|", *(row.text(rows[0]) for row in rows)]
        replace_section("slots", "", [told, "", *table], ROOT / "docs/slots.md")
    return 0 if [row.most for row in rows] == [min(slots, asked.seeds) for slots in SLOTS] else 1


def row_of(slots: int, seeds: int, seconds: float) -> Row:
    """A campaign of so many seeds with so many slots, on a local Kaggle of its own."""
    with tempfile.TemporaryDirectory() as folder:
        kaggle, project, work = (Path(folder) / name for name in ("kaggle", "project", "work"))
        kaggle.mkdir()
        (kaggle / "limits.json").write_text('{"ingestion_s": 0.0}')
        bench = ScriptBench(project, work, ensure_running(kaggle, idle_exit_s=600))
        try:
            bench.write(f"time.sleep({seconds / STEPS})")
            where = {"workdir": work, "project_root": project, "platform": "local", "environ": {}}
            own = build_config(SECTION, **where)
            halves = {"max_steps": STEPS // 2, **where}
            configs = [build_config(SECTION, seed=seed, **halves) for seed in seeds_of(own, seeds)]
            told = Reporter(io.StringIO())
            manager = ValidationKaggleManager(
                platform="local",
                workdir=work,
                project_root=project,
                reporter=told,
                connect_to=bench.connect,
                notifier=Notifier(),
                check_before_push=lambda config, reporter, stated: None,
            )
            began = time.monotonic()
            Campaign(manager, configs, told, slots).run()
            wall_s = time.monotonic() - began
        finally:
            stop(kaggle)
        with closing(sqlite3.connect(kaggle / "world.sqlite3")) as database:
            lived = database.execute("SELECT created_at, ended_at FROM sessions").fetchall()
    most = max(sum(since <= moment < until for since, until in lived) for moment, _ in lived)
    whole_s = max(until for _, until in lived) - min(since for since, _ in lived)
    return Row(slots, most, sum(until - since for since, until in lived) / whole_s, wall_s)


if __name__ == "__main__":
    raise SystemExit(main())
