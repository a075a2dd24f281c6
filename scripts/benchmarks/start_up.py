"""What a command costs before it does anything: CPU time of `km --help` and `km status`, which must be 0.6 s at most.

    python scripts/benchmarks/start_up.py [--times 10]

User and system time of the whole process, with this interpreter, in the folder that it is called from; the median is
what counts, and the modules that cost most are named by `python -X importtime -m kaggle_manager.cli status`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

BOUND_S = 0.6
LINES = ("--help", "status", "status --json", "run --help")


def cpu_s(line: str) -> float:
    """User and system seconds of one call."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kaggle_manager.cli", *line.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="calls of each; default: 10")
    options = parser.parse_args()
    too_slow = False
    print("| command | median | least | most |\n|---|---|---|---|")
    for line in LINES:
        cpu_s(line)  # the first one compiles
        found = sorted(cpu_s(line) for _ in range(options.times))
        median = statistics.median(found)
        too_slow |= median > BOUND_S
        print(f"| `km {line}` | {median:.2f} s | {found[0]:.2f} s | {found[-1]:.2f} s |", flush=True)
    return int(too_slow)


if __name__ == "__main__":
    raise SystemExit(main())
