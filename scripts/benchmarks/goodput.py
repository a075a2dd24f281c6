"""How much of what bare Stable-Baselines3 would have trained in the same time is kept, over whole sessions.

A new project's section, as `init` writes it, is run over sessions of a given length on the local Kaggle: everything in
them counts, the start, the packages, evaluations, checkpoints, the margin at the end. Then the same algorithm with the
same settings trains without anything for a while. It explores no longer than a moment, so that a timestep takes as long
at the end as at the beginning.

    goodput = timesteps on the disk after the sessions / (bare timesteps a second x the length of all sessions)

    python scripts/benchmarks/goodput.py --session-s 120 --bare-s 30      a look, 6 minutes
    python scripts/benchmarks/goodput.py --write                          two sessions of 10 minutes, 25 minutes in all

One torch thread, as in a session. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kaggle_manager.trainer.sb3  # noqa: F401 - pins the arithmetic before torch is imported

# isort: split
from kept_section import commit, replace_section

from kaggle_manager.checkpoints import Lineage
from kaggle_manager.sections.model import SECTION_FILE, load_section
from kaggle_manager.trainer.sb3 import algorithms, determinism
from kaggle_manager.trainer.sb3.callbacks import AtRolloutStart
from kaggle_manager.trainer.sb3.training_config import from_scenario

NAME, MANY = "e", 50_000_000
# A look at the run takes a second of a processor.
LOOK_S = 20.0
# So far off a target would stretch the exploration over hours, in which a timestep takes ever longer.
STATIONARY = "exploration_fraction = 1e-6"


class Until(AtRolloutStart):
    """Ends a training after so many seconds, and knows its speed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self.steps_a_second = seconds, 0.0

    def _on_training_start(self) -> None:
        self._began = time.monotonic()

    def _on_step(self) -> bool:
        spent = time.monotonic() - self._began
        self.steps_a_second = self.num_timesteps / spent
        return spent < self._seconds


def write_section(project: Path, env: str, algorithm: str) -> Path:
    """A section as `init` writes it, whose timesteps all take as long; its file."""
    done(project, "init", NAME, "--env", env, "--algo", algorithm)
    file = project / "sections" / NAME / SECTION_FILE
    if algorithm in ("DQN", "QRDQN"):
        head = f"[scenarios.{NAME}.hyperparameters]\n"
        file.write_text(file.read_text().replace(head, f"{head}{STATIONARY}\n", 1))
    return file


def manager(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kaggle_manager.cli", *arguments]
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        command, cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done(project: Path, *arguments: str) -> str:
    process = manager(project, *arguments)
    said, complained = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}: {complained[-2000:]}")
    return said


def over_sessions(project: Path, sessions: int, length_s: int) -> list[dict[str, Any]]:
    """The first sessions of a run, as `history` has them."""
    limit = ["--session-limit", f"{length_s}s", "--timesteps", str(MANY)]
    run, ended = manager(project, "run", NAME, *limit), -1
    while run.poll() is None:
        time.sleep(LOOK_S)
        runs = json.loads(done(project, "history", NAME, "--json"))["runs"]
        found: list[dict[str, Any]] = [each for it in runs for each in it["sessions"] if each["stage"] == "closed"]
        if len(found) > ended:
            ended = len(found)
            print(f"{ended} of {sessions} sessions have ended", file=sys.stderr, flush=True)
        if len(found) >= sessions:
            run.send_signal(signal.SIGINT)
            run.communicate()
            done(project, "stop", NAME)
            return found[:sessions]
    sys.exit(f"the run has ended by itself: {run.communicate()[1][-2000:]}")


def bare_speed(file: Path, seconds: float) -> float:
    """Timesteps a second of what the section.toml at `file` trains, alone."""
    section = load_section(file)
    scenario = section.agent()
    determinism.make_deterministic("cpu")
    with tempfile.TemporaryDirectory() as tree:
        config = from_scenario(
            section.name, scenario, total=MANY, tree=Path(tree), lineage=Lineage("benchmark", 1, None, 0), identity={}
        )
    vec = config.environments.vectorised("none", scenario.seed or 0)
    model = algorithms.build_model(
        config.algorithm, config.policy, config.hyperparameters, vec, seed=scenario.seed or 0, device="cpu"
    )
    until = Until(seconds)
    with contextlib.redirect_stdout(io.StringIO()):
        model.learn(MANY, callback=until, log_interval=MANY)
    return until.steps_a_second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--algo", default="DQN")
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--session-s", type=int, default=600)
    parser.add_argument("--bare-s", type=float, default=240)
    parser.add_argument("--write", action="store_true", help="into docs/robustness_data.md")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would the run
    with tempfile.TemporaryDirectory(prefix="km_goodput_", ignore_cleanup_errors=True) as folder:
        project = Path(folder)
        file = write_section(project, options.env, options.algo)
        speeds = [bare_speed(file, options.bare_s / 2)]
        sessions = over_sessions(project, options.sessions, options.session_s)
        speeds.append(bare_speed(file, options.bare_s / 2))
    bare, gained = sum(speeds) / 2, [int(each["gained"]) for each in sessions]
    command = " ".join(["python", "scripts/benchmarks/goodput.py", *sys.argv[1:]])
    how = (
        f"`{command}` at commit {commit()}: {options.algo} on {options.env} as `init` writes it, sessions of "
        f"{options.session_s} s; bare, before and after: {speeds[0]:,.0f} and {speeds[1]:,.0f} steps/s."
    )
    head = ["| session | ran, s | timesteps kept | of bare in the whole session |", "|---|---|---|---|"]
    rows = [
        f"| {number} | {each['ran_s']:,.0f} | {kept:,} | {kept / (bare * options.session_s):.0%} |"
        for number, (each, kept) in enumerate(zip(sessions, gained, strict=True), 1)
    ]
    whole = sum(gained) / (bare * options.session_s * options.sessions)
    lines = [how, "", *head, *rows, f"| all | | {sum(gained):,} | {whole:.0%} |"]
    print(*lines, sep="\n")
    if options.write:
        replace_section("goodput", "## Goodput over whole sessions", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
