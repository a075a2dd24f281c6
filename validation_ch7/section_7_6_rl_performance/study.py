"""The whole study on this machine: every intersection with every declared training seed, then the report.

    python -m validation_ch7.section_7_6_rl_performance.study --intersection cologne1 ingolstadt1

Each training resumes by itself and is left alone once it has reached its target, so the same line goes on after
anything. Kaggle does the same trainings elsewhere; the report reads either.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_manager.errors import Interrupted, KaggleManagerError
from kaggle_manager.section import load_section
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.report import SECTION_FILE, write_report
from validation_ch7.section_7_6_rl_performance.training import PROJECT, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and report; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m validation_ch7.section_7_6_rl_performance.study", description=__doc__
    )
    parser.add_argument("--intersection", nargs="+", default=["cologne1", "ingolstadt1"], metavar="NAME")
    parser.add_argument("--seeds", type=int, help="how many of the declared training seeds; default: all")
    parser.add_argument("--timesteps", type=int, help="target of each training; default: the scenario's")
    parser.add_argument("--episodes", type=int, help="how many of the declared held-out episodes; default: all")
    parser.add_argument("--workdir", type=Path, default=PROJECT, help="everything is written below this folder")
    parser.add_argument("--lang", choices=("fr", "en"), default="fr")
    options = parser.parse_args(arguments)
    try:
        section = load_section(SECTION_FILE)
        names = [section.scenario_at(intersection) for intersection in options.intersection]
        for name in names:
            for seed in read_protocol(section).training_seeds[: options.seeds]:
                outcome = train(name, base=options.workdir, seed=seed, timesteps=options.timesteps)
                if outcome.kind == "interrupted":
                    raise Interrupted(
                        f"{name}, seed {seed}: {outcome.reason}.",
                        safe=f"the checkpoint of step {outcome.step} is kept.",
                        next_step="run the same command again to go on.",
                    )
        folder = write_report(names, base=options.workdir, lang=options.lang, episodes=options.episodes)
        print(f"report: {folder}")
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
