"""The report as PDF: pdflatex over what was written, in both languages.

Promises: the same files give the same bytes with the same TeX; a language whose text does not compile leaves the PDF
that was there, and says the line of TeX that failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kaggle_manager.errors import ConfigError, OutputDamaged
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import LANGUAGES

PROGRAM = "pdflatex"
PASSES = 3
"""Until references and their page numbers are settled."""
TIMEOUT_S = 300.0


def build_pdfs(report: Path) -> list[Path]:
    """Compile the report in `report` and put the PDFs beside that folder; return them.

    Raises:
        ConfigError: there is no pdflatex.
        OutputDamaged: TeX stopped.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigError(
            f"There is no {PROGRAM} on this machine.",
            safe=f"the report in {report} is whole.",
            next_step="apt-get install texlive-latex-recommended texlive-fonts-recommended texlive-lang-french lmodern",
        )
    return [_build(program, report, language) for language in LANGUAGES]


def _build(program: str, report: Path, language: str) -> Path:
    made = report.parent / f"section_7_6.{language}.pdf"
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "-interaction=nonstopmode", "-halt-on-error", f"-output-directory={scratch}"]
        # Neither a time nor a path of this machine enters the file.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
        for _ in range(PASSES):
            done = subprocess.run(
                [*command, f"document.{language}.tex"], cwd=report, env=environment, capture_output=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                lines = done.stdout.decode("utf-8", "replace").splitlines()
                failed = next((line for line in lines if line.startswith("!")), f"it ended with {done.returncode}")
                raise OutputDamaged(f"{PROGRAM} stopped at document.{language}.tex: {failed}")
        shutil.copyfile(Path(scratch) / f"document.{language}.pdf", made)
    return made
