"""Scripts of four kinds, each killed at random moments over three sessions, and compared with an untouched run.

The examples of docs/scripts, with their real frameworks (extra `frameworks`), by the contract of
docs/scripts.md alone: a session that is asked to stop by SIGTERM and one that is killed, in either order, then one that
ends. Compared are the values of all files of the last checkpoint, and the curves.

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
from script_sessions import EXAMPLES, FRAMEWORKS, SIZES, Sessions, saving_often, strikes_at_random

PAGE = Path(__file__).resolve().parents[2] / "docs/scripts.md"
NAMES = {
    "pytorch": ("PyTorch, a loop of its own", "torch"),
    "cleanrl": ("CleanRL's style, one file", "gymnasium"),
    "lightning": ("Lightning", "lightning"),
    "transformers": ("Hugging Face Trainer", "transformers"),
}


@dataclass
class Row:
    """What came of the chains of one framework."""

    framework: str
    sessions: int = 0
    stops: int = 0
    kills: int = 0
    identical: int = 0
    chains: int = 0

    def __str__(self) -> str:
        name, package = NAMES[self.framework]
        verdict = "yes" if self.identical == self.chains else f"**{self.identical} of {self.chains}**"
        return (
            f"| {name} | {package} {version(package)} | {self.chains} | {self.sessions} | {self.stops} | {self.kills} "
            f"| {verdict} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--chains", type=int, default=5, help="runs of three sessions of each")
    parser.add_argument("--only", nargs="+", choices=sorted(NAMES), default=list(NAMES))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/scripts.md")
    arguments = parser.parse_args()
    rows = []
    for framework in arguments.only:
        missing = [each for each in FRAMEWORKS[framework] if importlib.util.find_spec(each.partition(".")[0]) is None]
        if missing:
            print(f"{framework}: left out, {', '.join(missing)} is not installed", file=sys.stderr)
            continue
        rows.append(row_of(framework, arguments.chains, random.Random(arguments.seed)))
        print(rows[-1], flush=True)
    if arguments.write:
        replace_section("frameworks", "## Frameworks", as_lines(rows), PAGE)
    return 0 if all(row.identical == row.chains for row in rows) else 1


def row_of(framework: str, chains: int, draw: random.Random) -> Row:
    row, (target, every) = Row(framework), SIZES[framework]
    with tempfile.TemporaryDirectory() as folder:
        script = saving_often(EXAMPLES / framework / "train.py", Path(folder), every)
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
    return row


def as_lines(rows: list[Row]) -> list[str]:
    return [
        "| | version | runs | sessions | stopped (SIGTERM) | killed (SIGKILL) | identical |",
        "|---|---|---|---|---|---|---|",
        *map(str, rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
