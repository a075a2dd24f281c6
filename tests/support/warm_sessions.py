"""A process that has imported a framework and becomes one session of a script for each line it is given.

    [script, folder, variables, strike]         strike: [step, signal, seconds later], or null
    -> the exit code, minus the signal that ended it

The strike is the session's own: it comes at any moment of the training, and at the same step on a busy machine.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import runpy
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return session(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def session(script: str, folder: str, variables: dict[str, str], strike: tuple[int, int, float] | None) -> None:
    os.environ.update(variables)
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    random.seed()
    for name in ("numpy", "torch"):  # as different as in two processes
        if name in sys.modules:
            sys.modules[name].random.seed()
    if strike:
        threading.Thread(target=strike_at, args=(Path(variables["KM_SESSION_SAVES"]), *strike), daemon=True).start()
    sys.path[0] = os.path.dirname(script)  # noqa: PTH120
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


def strike_at(saves: Path, step: int, number: int, later_s: float) -> None:
    while last_step(saves / "metrics.jsonl") < step:
        time.sleep(0.001)
    time.sleep(later_s)
    os.kill(os.getpid(), number)


def last_step(metrics: Path) -> int:
    try:
        return int(json.loads(metrics.read_bytes().splitlines()[-1])["step"])
    except (OSError, IndexError, ValueError):
        return 0


if __name__ == "__main__":
    main()
