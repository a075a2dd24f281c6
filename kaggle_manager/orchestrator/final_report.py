"""The section's own report, written when a run has reached its target; a report that fails never spoils a run."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections import defaultdict
from pathlib import Path
from threading import get_ident
from types import ModuleType

from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import one_line
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import has_report, module_of


def write_final_report(config: RunConfig, reporter: Reporter, *arguments: str) -> bool:
    """Write the report of what `config` trains; True when it was written.

    Args:
        arguments: for the section's report, beside what names the training.
    """
    name = config.section.name
    base = config.tree
    for _ in (*config.section_path.parts, *config.scenario.models.split("/")):
        base = base.parent
    again = config.command("report")
    if not has_report(config.project_root, name):
        return False
    try:
        module = import_report(config.project_root, config.section)
    except ModuleNotFoundError as error:
        reporter.line(f"no report was written, for {error.name} is not here; later: {again}")
        return False
    except (Exception, SystemExit) as error:  # it is the user's own program
        reporter.warn(f"no report was written, for it cannot be imported: {_in_words(error)}. Try again: {again}")
        return False
    folder = base / config.section_path / "data" / "results" / "report"
    reporter.line(
        f"The training is finished and safe. Its report follows: figures and tables in {folder}, from held-out "
        f"episodes that are simulated here, which takes minutes; `run --no-report` skips it. Later: {again}"
    )
    reporter.phase("writing the report (Ctrl-C is safe)")
    given = ["--workdir", str(base), "--scenario", config.scenario_name, "--journal", str(config.journal), *arguments]
    try:
        with contextlib.redirect_stdout(_Lines(reporter)):  # what the command prints for programs stays alone
            code = module.main(given)
    except (Exception, SystemExit) as error:  # it is the user's own program
        reporter.warn(f"the report ended with {_in_words(error)}; the models are whole. Try again: {again}")
        return False
    if code != 0:
        reporter.warn(f"the report could not be written; the models are whole. Try again: {again}")
        return False
    return True


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error))}"


def import_report(root: Path, section: Section) -> ModuleType:
    """The program that writes the report of a section, which `has_report`; `main(arguments)` of it does.

    Raises:
        ModuleNotFoundError: a library that it needs is not here.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # the project's own modules, under their own names
    return importlib.import_module(module_of(root, section.folder / "report" / "__main__.py"))


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
