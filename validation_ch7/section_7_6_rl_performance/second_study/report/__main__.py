"""`python -m validation_ch7.section_7_6_rl_performance.second_study.report`: write, check or replay what is kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from kaggle_manager.errors import KaggleManagerError
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import FILE, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import replay
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import FOLDER, Kept
from validation_ch7.section_7_6_rl_performance.second_study.report.pdf import build_pdfs
from validation_ch7.section_7_6_rl_performance.second_study.report.writing import check_report, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        kept, declaration = Kept(options.kept), read_declaration(options.declaration)
        if options.check:
            print(f"{check_report(kept, declaration)} files are what the kept data give")
        if options.replay:
            print(f"{replay(kept, declaration, options.replay)} episodes have the digests that are kept")
        if not options.check and not options.replay:
            folder = write_report(kept, declaration)
            print(f"report: {folder}")
            for made in build_pdfs(folder) if options.pdf else ():
                print(f"report: {made}")
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m validation_ch7.section_7_6_rl_performance.second_study.report")
    parser.add_argument("--kept", type=Path, default=FOLDER, help="folder of the kept data; default: the section's own")
    parser.add_argument("--declaration", type=Path, default=FILE, help="what judges it; default: the section's own")
    parser.add_argument("--pdf", action="store_true", help="compile what was written, with pdflatex")
    parser.add_argument("--check", action="store_true", help="make every file again from the kept data and compare")
    parser.add_argument("--replay", type=int, metavar="N", help="play N episodes of each controller again and compare")
    return parser


if __name__ == "__main__":
    sys.exit(main())
