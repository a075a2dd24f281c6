#!/usr/bin/env python3
"""Train section 7.6 (reinforcement-learning traffic-signal control) to its target, over many Kaggle sessions.

    python scripts/run_kaggle_validation_section_7_6.py --quick
    python scripts/run_kaggle_validation_section_7_6.py --timesteps 3000 --session-limit 60s
    python scripts/run_kaggle_validation_section_7_6.py --intersection ingolstadt1 --seeds 5

The same as `km run section_7_6_rl_performance` with the same options; `--intersection` stands for the
`--scenario` that is there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kaggle_manager.cli import main

PROJECT = Path(__file__).resolve().parents[1]
SECTION = "section_7_6_rl_performance"


def with_scenario(arguments: list[str]) -> list[str]:
    """The options of `run`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scenario")
    where.add_argument("--intersection")
    asked, options = parser.parse_known_args(arguments)
    scenario = asked.scenario
    if asked.intersection is not None:
        sys.path.insert(0, str(PROJECT))
        from kaggle_manager.errors import KaggleManagerError
        from kaggle_manager.sections.project import get_section
        from validation_ch7.section_7_6_rl_performance.scenarios import scenario_at

        try:
            scenario = scenario_at(get_section(PROJECT, SECTION), asked.intersection)
        except KaggleManagerError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
    return [*(["--scenario", scenario] if scenario else []), *options]


if __name__ == "__main__":
    # From whichever folder it is called: the section is this repository's.
    os.environ.setdefault("KM_PROJECT", str(PROJECT))
    main(["run", SECTION, *with_scenario(sys.argv[1:])])
