"""The section's own report, written when a run has reached its target; a report that fails never spoils a run."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections import defaultdict
from threading import get_ident

from kaggle_manager.config import PROJECT_ROOT, RunConfig
from kaggle_manager.progress import Reporter
from kaggle_manager.section import SECTIONS_FOLDER
from kaggle_manager.words import quoted


def write_final_report(config: RunConfig, reporter: Reporter, *arguments: str) -> bool:
    """Write the report of what `config` trains; True when it was written.

    Args:
        arguments: for the section's report, beside what names the training.
    """
    name = config.section.name
    base = config.tree
    for _ in (SECTIONS_FOLDER, name, *config.scenario.models.split("/")):
        base = base.parent
    elsewhere = f" --workdir {quoted(base)}" if base != PROJECT_ROOT else ""
    again = f"kaggle-manager report {name} --scenario {config.scenario_name}{elsewhere}"
    package = PROJECT_ROOT / SECTIONS_FOLDER / name / "report"
    if config.project_root != PROJECT_ROOT or not package.is_dir():  # a section of one's own need not have one
        return False
    try:
        module = importlib.import_module(f"{SECTIONS_FOLDER}.{name}.report.__main__")
    except ModuleNotFoundError as error:
        reporter.line(f"no report was written, for {error.name} is not here; later: {again}")
        return False
    folder = base / SECTIONS_FOLDER / name / "data" / "results" / "report"
    reporter.line(
        f"The training is finished and safe. Its report follows: figures and tables in {folder}, from held-out "
        f"episodes that are simulated here, which takes minutes; `run --no-report` skips it. Later: {again}"
    )
    reporter.phase("writing the report (Ctrl-C is safe)")
    given = ["--workdir", str(base), "--scenario", config.scenario_name, "--journal", str(config.journal), *arguments]
    with contextlib.redirect_stdout(_Lines(reporter)):  # what the command prints for programs stays alone
        code = module.main(given)
    if code != 0:
        reporter.warn(f"the report could not be written; the models are whole. Try again: {again}")
        return False
    return True


class _Lines(io.TextIOBase):
    """What is printed, as lines of a reporter; a live line stays below them."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._begun: defaultdict[int, str] = defaultdict(str)  # of each thread

    def write(self, text: str) -> int:
        *lines, self._begun[get_ident()] = (self._begun[get_ident()] + text).split("\n")
        for line in lines:
            self._reporter.line(line)
        return len(text)
