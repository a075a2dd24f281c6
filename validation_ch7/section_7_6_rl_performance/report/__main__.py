"""`python -m validation_ch7.section_7_6_rl_performance.report`: write a report, or check one.

Where neither a scenario nor a folder of runs is named, it is the report of what the second study keeps, once it keeps
something.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.sections.model import load_section
from kaggle_manager.system.arguments import ArgumentParser
from validation_ch7.section_7_6_rl_performance.report import SECTION_FILE, check_report, write_report
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import FOLDER as KEPT
from validation_ch7.section_7_6_rl_performance.second_study.report.__main__ import main as of_second_study
from validation_ch7.section_7_6_rl_performance.training import PROJECT

KEEPING = "validation_ch7.section_7_6_rl_performance.second_study.kept.study"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    options = _parser().parse_args(arguments)
    if options.replay or (KEPT.exists() and not (options.scenario or options.workdir or options.quick)):
        check, replay = ["--check"] * options.check, ["--replay", str(options.replay)] * bool(options.replay)
        return of_second_study([*check, *replay])
    workdir = options.workdir or PROJECT
    try:
        if other := [name for name in options.scenario if _is_of_second_study(name)]:
            raise ConfigError(
                f"{other[0]} is of the second study, whose report is made of the trainings that are kept.",
                safe="the training is whole.",
                next_step=f"python -m {KEEPING} --keep --workdir {workdir}",
            )
        if options.check:
            count = check_report(base=workdir, quick=options.quick, journal=options.journal)
            print(f"{count} files are what the data give")
        else:
            folder = write_report(
                options.scenario,
                base=workdir,
                lang=options.lang,
                quick=options.quick,
                seeds=options.seeds,
                episodes=options.episodes,
                journal=options.journal,
            )
            print(f"report: {folder}")
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _is_of_second_study(scenario: str) -> bool:
    return load_section(SECTION_FILE).agent(scenario).environment.endswith(":SignalEnv")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m validation_ch7.section_7_6_rl_performance.report")
    parser.add_argument("--scenario", nargs="+", default=[], help="default: the section's default scenario")
    parser.add_argument("--workdir", type=Path, help="folder the run wrote below; default: the project")
    parser.add_argument("--lang", choices=("fr", "en"), default="fr", help="language; default: fr")
    parser.add_argument("--quick", action="store_true", help="report the quick run")
    parser.add_argument("--seeds", type=int, help="how many of the declared training seeds; default: all")
    parser.add_argument("--episodes", type=int, help="how many of the declared held-out episodes; default: all")
    parser.add_argument("--journal", type=Path, help="the manager's journal, which knows where sessions began")
    parser.add_argument("--check", action="store_true", help="write it again from the stored data and compare")
    parser.add_argument(
        "--replay", type=int, metavar="N", help="second study: play N kept episodes of each controller and compare"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
