"""The whole study on this machine: every intersection with every declared training seed, then the report.

    python -m validation_ch7.section_7_6_rl_performance.study --intersection cologne1 ingolstadt1 --jobs 2

Each training is a process of its own that resumes by itself and is left alone once it has reached its target, so the
same command resumes. Kaggle does the same trainings elsewhere; the report reads either.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from kaggle_manager.errors import Interrupted, KaggleManagerError, RunError
from kaggle_manager.sections.model import load_section
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.report import SECTION_FILE, results_folder, write_report
from validation_ch7.section_7_6_rl_performance.scenarios import scenario_at
from validation_ch7.section_7_6_rl_performance.training import PROJECT

TRAINING = "validation_ch7.section_7_6_rl_performance.training"


@dataclass(frozen=True)
class Training:
    """One training of the study; `timesteps` of None is the scenario's own target."""

    scenario: str
    seed: int
    timesteps: int | None
    base: Path

    def __str__(self) -> str:
        return f"{self.scenario}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """What its process prints."""
        return results_folder(self.base) / "logs" / f"{self.scenario}_seed_{self.seed}.log"

    def run(self) -> int:
        """Train to the target in a process of its own; return its exit code."""
        command = [sys.executable, "-m", TRAINING, self.scenario, "--seed", str(self.seed)]
        command += ["--workdir", str(self.base.resolve())]
        command += ["--timesteps", str(self.timesteps)] if self.timesteps else []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.run(command, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def train_all(trainings: Sequence[Training], jobs: int) -> None:
    """Train them all, `jobs` at a time. After the first that fails, or Ctrl-C, those that run end and no other begins.

    Raises:
        Interrupted: a person pressed Ctrl-C; every checkpoint is kept.
        RunError: a training failed; the message has its last words.
    """
    ending = Event()

    def run(training: Training) -> int | None:
        if ending.is_set():
            return None
        code = training.run()
        if code:  # set here: this very thread would begin the next one before anybody looks at what it returns
            ending.set()
        return code

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, training): training for training in trainings}
        try:
            for done in as_completed(running):
                if (code := done.result()) is not None:
                    _check(running[done], code)
                    print(f"trained: {running[done]}", flush=True)
        except KeyboardInterrupt as error:  # the trainings heard it too, and stop in good order
            raise Interrupted(
                "The study was interrupted.",
                safe="every training's newest checkpoint is kept.",
                next_step="run the same command again to go on.",
            ) from error
        finally:
            ending.set()


def _check(training: Training, code: int) -> None:
    if code == 0:
        return
    if code == Interrupted.exit_code:
        raise KeyboardInterrupt
    words = training.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise RunError(
        f"{training}: its process ended with {code}: {' '.join(words[-3:])}",
        safe="what was trained is kept.",
        next_step=f"look at {training.log}, then run the same command again to go on.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m validation_ch7.section_7_6_rl_performance.study", description=__doc__
    )
    parser.add_argument("--intersection", nargs="+", default=["cologne1", "ingolstadt1"], metavar="NAME")
    parser.add_argument("--seeds", type=_positive, help="how many of the declared training seeds; default: all")
    parser.add_argument("--timesteps", type=_positive, help="target of each training; default: the scenario's")
    parser.add_argument("--episodes", type=_positive, help="how many of the declared held-out episodes; default: all")
    parser.add_argument("--jobs", type=_positive, default=1, help="trainings at a time; each needs a core")
    parser.add_argument("--workdir", type=Path, default=PROJECT, help="everything is written below this folder")
    parser.add_argument("--lang", choices=("fr", "en"), default="fr")
    options = parser.parse_args(arguments)
    try:
        section = load_section(SECTION_FILE)
        names = [scenario_at(section, intersection) for intersection in options.intersection]
        seeds = read_protocol(section).training_seeds[: options.seeds]
        train_all([Training(name, seed, options.timesteps, options.workdir) for name in names for seed in seeds],
                  options.jobs)  # fmt: skip
        folder = write_report(
            names, base=options.workdir, lang=options.lang, seeds=options.seeds, episodes=options.episodes
        )
        print(f"report: {folder}")
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
