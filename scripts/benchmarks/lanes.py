"""What a session trains with one lane and with two, beside two bare trainings side by side.

For PPO on CartPole and for section 7.6, evaluations off, on this machine's cores: a session of the local Kaggle trains
one seed, then one session trains two in two lanes; everything in it counts, the start, checkpoints, the margin at the
end. Before and after, two processes train the same bare with Stable-Baselines3, each on its half of the cores.

Start and margin are the same seconds in a session of minutes and in one of hours, so besides what this session kept
there is what its lanes made while they trained and saved, and what a session of an hour would keep at that speed.

    python scripts/benchmarks/lanes.py --session-s 90 --bare-s 20       a look, 8 minutes
    python scripts/benchmarks/lanes.py --write                          sessions of 5 minutes, half an hour in all

Needs SUMO (the `sumo` extra) for section 7.6. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from goodput import MANY, bare_speed, done, manager
from kept_section import commit, replace_section

from kaggle_manager.runs.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 5.0
SECTION_7_6 = "section_7_6_rl_performance"


@dataclass(frozen=True)
class Trained:
    """What a session has trained: timesteps saved, timesteps a second while it trained, and its other seconds."""

    steps: int
    steps_a_second: float
    other_s: float

    def in_an_hour(self) -> float:
        """Timesteps that a session of an hour would save."""
        return self.steps_a_second * (3600 - self.other_s)


def make_ppo(project: Path) -> tuple[str, Path]:
    """A project that trains PPO on CartPole as `init` writes it; its section, and where section.toml is."""
    done(project, "init", "ppo", "--env", "CartPole-v1", "--algo", "PPO")
    return "ppo", project / "sections/ppo/section.toml"


def make_7_6(project: Path) -> tuple[str, Path]:
    """A copy of section 7.6, without what its runs produced."""
    folder = project / "validation_ch7"
    shutil.copytree(ROOT / "validation_ch7", folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    return SECTION_7_6, folder / SECTION_7_6 / "section.toml"


def without_evaluations(text: str) -> str:
    """The text of a section.toml in which no evaluation comes before its end."""
    found = re.sub(r"(?m)^every = .*\n", "", text)
    found, count = re.subn(r"(?m)^(\[scenarios\.\w+\.evaluation\])$", rf"\1\nevery = {MANY}", found)
    assert count, "no scenario says how it is evaluated"
    return re.sub(r'(?m)^accelerator = "NvidiaTeslaT4"\n', "", found)


def train(project: Path, section: str, file: Path, text: str, lanes: int, session_s: int) -> Trained:
    """What one session of so many lanes trains."""
    file.write_text(text.replace("[kernel]\n", f"[kernel]\nlanes = {lanes}\n", 1))
    work = project / f"work_{lanes}"
    where = ["--workdir", str(work)]
    limit = ["--session-limit", f"{session_s}s", "--timesteps", str(MANY), "--seeds", str(lanes)]
    run = manager(project, "run", section, *where, *limit)
    try:
        time.sleep(session_s)  # a look takes a second of a processor
        while run.poll() is None:
            time.sleep(LOOK_S)
            if not (work / "journal.sqlite").exists():
                continue
            with closing(Journal(work / "journal.sqlite")) as journal:
                first = [each for it in journal.runs() for each in journal.sessions(it.run_id) if each.generation == 1]
            if len(first) == lanes and all(each.stage == "closed" for each in first):
                sessions = {(each.address, each.version) for each in first}
                assert len(sessions) == 1, f"{len(sessions)} sessions were started"
                spent = [each.facts["timings"] for each in first]
                trained_s = [each["train"] + each["save"] for each in spent]
                gained = [int(each.facts["gained"]) for each in first]
                speed = sum(steps / took for steps, took in zip(gained, trained_s, strict=True))
                return Trained(sum(gained), speed, session_s - min(trained_s))
    finally:
        run.send_signal(signal.SIGINT)
        said = run.communicate()[1]
        done(project, "local-kaggle", "stop")
        # The session that follows the measured one would go on.
        subprocess.run(["pkill", "-KILL", "-f", str(work)], check=False)
    sys.exit(f"the run has ended by itself: {said[-2000:]}")


def bare_side_by_side(project: Path, file: Path, seconds: float) -> float:
    """Timesteps a second of two bare trainings together."""
    cores = sorted(os.sched_getaffinity(0))
    halves = cores[: len(cores) // 2], cores[len(cores) // 2 :]
    command = [sys.executable, __file__, "--bare", str(file), str(seconds)]
    started = [
        subprocess.Popen(["taskset", "-c", ",".join(map(str, half)), *command], cwd=project, stdout=subprocess.PIPE)
        for half in halves
    ]
    return sum(float(each.communicate()[0].split()[-1]) for each in started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--session-s", type=int, default=300)
    parser.add_argument("--bare-s", type=float, default=90)
    parser.add_argument("--only", choices=("PPO", "7.6"))
    parser.add_argument("--write", action="store_true", help="into docs/robustness_data.md")
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare_speed(Path(options.bare[0]), float(options.bare[1])))
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would the run
    rows = []
    for what, make in (("PPO on CartPole-v1", make_ppo), ("section 7.6, DQN", make_7_6)):
        if options.only and options.only not in what:
            continue
        with tempfile.TemporaryDirectory(prefix="km_lanes_", ignore_cleanup_errors=True) as folder:
            project = Path(folder)
            section, file = make(project)
            text = without_evaluations(file.read_text())
            file.write_text(text)
            speeds = [bare_side_by_side(project, file, options.bare_s / 2)]
            trained = [train(project, section, file, text, lanes, options.session_s) for lanes in (1, 2)]
            file.write_text(text)
            speeds.append(bare_side_by_side(project, file, options.bare_s / 2))
        bare = sum(speeds) / 2 * 3600
        one, two = (each.steps / options.session_s * 3600 for each in trained)
        speed, hour = trained[1].steps_a_second * 3600, trained[1].in_an_hour()
        shares = " | ".join(f"{each:.2f}" for each in (two / one, two / bare, speed / bare, hour / bare))
        rows.append(f"| {what} | {one:,.0f} | {two:,.0f} | {bare:,.0f} | {shares} |")
        print(rows[-1], file=sys.stderr, flush=True)
    command = " ".join(["python", "scripts/benchmarks/lanes.py", *sys.argv[1:]])
    how = f"`{command}` at commit {commit()}: one session of {options.session_s} s each, {os.cpu_count()} cores; bare "
    head = (
        "| training | steps an hour, one lane | two lanes | two bare side by side | two lanes / one | / two bare |"
        " / two bare, while they trained | / two bare, of a session of an hour |"
    )
    lines = [
        f"{how}trainings for {options.bare_s:.0f} s, before and after.",
        "",
        head,
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    print(*lines, sep="\n")
    if options.write:
        replace_section("lanes", "## Lanes", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
