"""A declared training of the second study at each site, through the manager, over sessions that are killed.

    python scripts/study_through_sessions.py --work FOLDER

The main agent's first declared seed is trained by `km run` on a local Kaggle in sessions of five minutes: the trainer
is killed in the second one, the whole machine in the third, the manager after each. Then the same training runs without
a session or a kill. What came of both is kept (`results/sessions`), and both must have the policy of the declared
training, which stays as it is. What is finished in FOLDER is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts/benchmarks")]

from marathon import running_session, trainer_below  # noqa: E402
from marathon_account import folders_of_sessions  # noqa: E402

from kaggle_manager.local_kaggle import disk  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import read_declaration  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept  # noqa: E402
from validation_ch7.section_7_6_rl_performance.second_study.kept.trainings import (  # noqa: E402
    has_judged_bits,
    keep_over_sessions,
)
from validation_ch7.section_7_6_rl_performance.training import FOLDER  # noqa: E402

SECTION = FOLDER.name
KILLED = {2: "trainer", 3: "machine"}
KILLED_FILE = "killed.json"
# After the start of its session, in seconds: late enough to have trained and saved.
STRIKES_AFTER_S = 0.6


def train_over_sessions(work: Path, scenario: str, seed: int, limit_s: float) -> None:
    """Train by `km run`, again and again until it says that the target is reached."""
    command = [sys.executable, "-m", "kaggle_manager.cli", "run", SECTION, "--scenario", scenario, "--seed", str(seed)]
    command += ["--workdir", str(work), "--session-limit", f"{limit_s:g}s", "--no-report"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KM_PLATFORM": "local"}
    while True:
        with (work / "manager.log").open("a") as log:
            manager = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        while manager.poll() is None:
            time.sleep(0.5)
            if (number := strike(work, limit_s)) is not None:
                say(f"session {number}: {KILLED[number]} and manager killed")
                manager.kill()
        if manager.wait() == 0:
            return
        if manager.returncode != -signal.SIGKILL:
            sys.exit(f"the manager ended with {manager.returncode}; see {work / 'manager.log'}")


def strike(work: Path, limit_s: float) -> int | None:
    """Kill what is to be killed now; the number of its session, None for nothing."""
    struck = killed_in(work)
    session, number = running_session(work), len(folders_of_sessions(work))
    if session is None or number not in KILLED or number in struck:
        return None
    started = disk.read_json(session / "started.json") or {}
    if time.time() < started["started_at"] + STRIKES_AFTER_S * limit_s:
        return None
    pid = started["pid"] if KILLED[number] == "machine" else trainer_below(started["pid"])
    if pid is None:
        return None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    (work / KILLED_FILE).write_text(json.dumps([*struck, number]), encoding="utf-8")
    return number


def killed_in(work: Path) -> list[int]:
    """The sessions in which something was killed, also by an earlier call of this script."""
    file = work / KILLED_FILE
    return [int(number) for number in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []


def run_module(name: str, *arguments: str) -> None:
    module = f"validation_ch7.section_7_6_rl_performance.{name}"
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where everything is trained")
    parser.add_argument("--session-limit", type=float, default=300.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    declaration, kept, equal = read_declaration(), Kept(), True
    main_agent = declaration.agents["main"]
    seed = main_agent.training_seeds[0]
    for site, scenario in main_agent.scenarios.items():
        over, alone = (options.work.resolve() / f"{site}_{how}" for how in ("sessions", "alone"))
        over.mkdir(parents=True, exist_ok=True)
        train_over_sessions(over, scenario, seed, options.session_limit)
        run_module("training", scenario, "--seed", str(seed), "--workdir", str(alone))
        killed = killed_in(over)
        kills = {**{KILLED[number]: 1 for number in killed}, "manager": len(killed)}
        keep_over_sessions(kept, declaration, site, over=over, alone=alone, journal=over / "journal.sqlite",
                           kills=kills, session_limit_s=options.session_limit)  # fmt: skip
        same = has_judged_bits(kept, site)
        found = kept.sessions(site) or {}
        say(f"{site}, seed {seed}: {found['sessions']} sessions, ends {found['session_ends']}, killed {kills}: "
            f"{'equal to' if same else 'DIFFERENT FROM'} the training that was not cut")  # fmt: skip
        equal = equal and same
    return 0 if equal else 1


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
