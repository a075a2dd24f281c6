"""Scripts of four kinds, each killed at random moments over three sessions, and compared with an untouched run.

The examples of docs/scripts, with their real frameworks (extra `frameworks`). By the contract of docs/scripts.md alone:
a session that is asked to stop by SIGTERM and one that is killed, in either order, then one that ends. And by `km run`
on a local Kaggle: a session whose machine dies, one whose time is over, and one that ends. Compared are the values of
all files of the last checkpoint, and the curves.

    python scripts/benchmarks/framework_resumes.py                      print the table
    python scripts/benchmarks/framework_resumes.py --write              and keep it in docs/scripts.md
    python scripts/benchmarks/framework_resumes.py --chains 20 --only lightning
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import signal
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/support"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from kept_section import replace_section
from script_project import ScriptBench, files_of
from script_sessions import (
    FRAMEWORKS,
    SIZES,
    TO_COPY,
    Chain,
    Sessions,
    points,
    saving_often,
    strikes_at_random,
)

from kaggle_manager.local_kaggle.image_packages import LIST
from kaggle_manager.local_kaggle.launcher import ensure_running, stop

PAGE = Path(__file__).resolve().parents[2] / "docs/scripts.md"
NAMES = {
    "pytorch": ("PyTorch, a loop of its own", "torch"),
    "cleanrl": ("CleanRL's style, one file", "gymnasium"),
    "lightning": ("Lightning", "lightning"),
    "transformers": ("Hugging Face Trainer", "transformers"),
}


# In the script on a local Kaggle: its first session's machine dies, its second is still at work when its time is over.
# One thread, as in the sessions by the contract: a session leaves their number to the script, and sums depend on it.
STRUCK = """
import os, signal, time, resumable, torch
torch.set_num_threads(1)
def log(self, step, name, value, _log=resumable.Session.log):
    _log(self, step, name, value)
    if not self.resume and step >= {kill_at}:
        time.sleep(1)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    while self.resume and self.step < {wait_at} <= step and not self.stopping:
        time.sleep(0.02)
resumable.Session.log = log
"""


@dataclass
class Row:
    """What came of the chains of one framework."""

    framework: str
    sessions: int = 0
    stops: int = 0
    kills: int = 0
    identical: int = 0
    chains: int = 0
    through_kaggle: str = "not run"

    def __str__(self) -> str:
        name, package = NAMES[self.framework]
        verdict = "yes" if self.identical == self.chains else f"**{self.identical} of {self.chains}**"
        return (
            f"| {name} | {package} {version(package)} | {self.chains} | {self.sessions} | {self.stops} | {self.kills} "
            f"| {verdict} | {self.through_kaggle} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--chains", type=int, default=5, help="runs of three sessions of each")
    parser.add_argument("--only", nargs="+", choices=sorted(NAMES), default=list(NAMES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--session-limit", default="120s", help="of a session by `km run`; '' leaves that out")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/scripts.md")
    arguments = parser.parse_args()
    rows = []
    for framework in arguments.only:
        missing = [each for each in FRAMEWORKS[framework] if importlib.util.find_spec(each.partition(".")[0]) is None]
        if missing:
            print(f"{framework}: left out, {', '.join(missing)} is not installed", file=sys.stderr)
            continue
        rows.append(row_of(framework, arguments.chains, random.Random(arguments.seed), arguments.session_limit))
        print(rows[-1], flush=True)
    if arguments.write:
        replace_section("frameworks", "## Frameworks", as_lines([*map(str, rows)]), PAGE)
    return 0 if all(row.identical == row.chains and row.through_kaggle in ("yes", "not run") for row in rows) else 1


def row_of(framework: str, chains: int, draw: random.Random, limit: str) -> Row:
    row, target = Row(framework), SIZES[framework][0]
    with tempfile.TemporaryDirectory() as folder:
        script = saving_often(framework, Path(folder))
        with Sessions(script, Path(folder) / "work", FRAMEWORKS[framework]) as sessions:
            whole = sessions.chain("whole", TARGET=target, SEED=3)
            for number in range(chains):
                strikes = strikes_at_random(target, draw)
                cut = sessions.chain(f"cut{number}", strikes, TARGET=target, SEED=3)
                row.chains += 1
                row.sessions += len(cut.codes)
                row.stops += cut.codes[:-1].count(0)
                row.kills += cut.codes.count(-signal.SIGKILL)
                different = cut.difference(whole)
                row.identical += not different
                if different:
                    print(f"{framework}: {', '.join(different[:5])} after {strikes}", file=sys.stderr)
        if limit:
            different = by_km_run(framework, script, Path(folder), limit).difference(whole)
            row.through_kaggle = f"**{', '.join(different[:3])}**" if different else "yes"
    return row


def by_km_run(framework: str, script: Path, folder: Path, limit: str) -> Chain:
    """The end of a run on a local Kaggle that has what the script imports: of three sessions or more."""
    target, every, _ = SIZES[framework]
    for name in ("kaggle", "project", "end"):
        (folder / name).mkdir()
    (folder / "kaggle/limits.json").write_text('{"ingestion_s": 0.0, "gpu_week_s": 1e9}')
    (folder / "kaggle" / LIST.name).write_text(f"{LIST.read_text()}\nlightning\n")
    server = ensure_running(folder / "kaggle", idle_exit_s=300)
    try:
        bench = ScriptBench(folder / "project", folder / "work", server)
        struck = STRUCK.format(kill_at=target // 3, wait_at=2 * target // 3) + script.read_text()
        bench.write(script=struck, files={path.name: path.read_text() for path in TO_COPY.glob("resumable*.py")})
        section = folder / "project/sections/toy/section.toml"
        text = section.read_text().replace("target = 40", f"target = {target}").replace("seed = 7", "seed = 3")
        text = text.replace('unit = "epochs"', 'unit = "steps"')
        section.write_text(text.replace("target = 4\n", f"target = {every}\n"))
        bench.run(session_limit=limit)
    finally:
        stop(folder / "kaggle")
    final = bench.final()
    sessions = bench.output.count("[STEP1] package")
    if final is None or sessions < 3:
        raise RuntimeError(f"{framework}: {sessions} sessions\n{bench.output[-3000:]}")
    files_of(final, folder / "end" / str(final.step))
    curve = [point for point in points(bench.tree.history / "metrics.jsonl") if point[0] <= final.step]
    return Chain(folder, newest=folder / "end" / str(final.step), curve=curve)


def as_lines(rows: list[str]) -> list[str]:
    """The table; a row that was not made now stays as it is on the page."""
    names = [f"| {name} |" for name, _ in NAMES.values()]
    lines = [*PAGE.read_text(encoding="utf-8").splitlines(), *rows]
    newest = {name: line for line in lines for name in names if line.startswith(name)}
    return [
        "| | version | runs | sessions | stopped (SIGTERM) | killed (SIGKILL) | identical | identical by `km run` |",
        "|---|---|---|---|---|---|---|---|",
        *(newest[name] for name in names if name in newest),
    ]


if __name__ == "__main__":
    sys.exit(main())
