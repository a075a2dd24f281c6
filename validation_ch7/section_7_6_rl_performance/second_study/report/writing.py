"""Writes the report of the second study, and checks it by writing it again.

Promises: a report is a function of the kept data and the declaration; the same data give the same bytes with the same
versions of the libraries; it is replaced as a whole or not at all; both languages have one provenance. Never trains,
never simulates, and changes nothing but the report's own folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from validation_ch7.section_7_6_rl_performance.report.canvas import as_bytes, style
from validation_ch7.section_7_6_rl_performance.report.writing import (
    check_files,
    replace_folder,
    stored_provenance,
    with_digests,
)
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.second_study.report import latex, provenance, tables
from validation_ch7.section_7_6_rl_performance.second_study.report.around import gather_around
from validation_ch7.section_7_6_rl_performance.second_study.report.figures import FIGURES
from validation_ch7.section_7_6_rl_performance.second_study.report.results import gather
from validation_ch7.section_7_6_rl_performance.second_study.report.wording import LANGUAGES


def report_folder(kept: Kept) -> Path:
    """Where the report of the kept data lies."""
    return kept.folder / "report"


def write_report(kept: Kept, declaration: Declaration) -> Path:
    """Write the report in every language and return its folder.

    Raises:
        NotFound: too little is kept.
        OutputDamaged: kept data was changed.
    """
    folder = report_folder(kept)
    replace_folder(folder, report_files(kept, declaration))
    return folder


def check_report(kept: Kept, declaration: Declaration) -> int:
    """Make every file of the report again from the kept data, in memory, and compare.

    Returns:
        how many files there are, all equal.

    Raises:
        NotFound: there is no report.
        OutputDamaged: a file is missing, altered, or not what the data give; all are named.
    """
    folder = report_folder(kept)
    stored = stored_provenance(folder)
    return check_files(folder, stored, report_files(kept, declaration))


def report_files(kept: Kept, declaration: Declaration) -> Mapping[str, bytes]:
    """The whole report: relative name -> bytes."""
    results = gather(kept, declaration)
    around = gather_around(kept, declaration, results)
    described = provenance.describe(kept, declaration, results)
    identifier = described["id"]
    files = {
        "provenance.json": (json.dumps(described, indent=2, sort_keys=True) + "\n").encode(),
        "tables/summary.csv": tables.summary(results, identifier),
        "tables/comparisons.csv": tables.comparisons(results, identifier),
        "tables/trainings.csv": tables.trainings(results, identifier),
        "tables/savings.csv": tables.plain(around.savings, identifier),
        "tables/tried.csv": tables.plain([*around.tried, *around.ablated], identifier),
    }
    for language in LANGUAGES:
        files[f"section_7_6.{language}.tex"] = latex.section(results, around, language, described).encode()
        files[f"document.{language}.tex"] = latex.document(results, language).encode()
        for result in results:
            for name, draw in FIGURES.items():
                with style():
                    drawn = as_bytes(draw(result, language), "pdf", f"provenance {identifier}", size=6)
                files[f"figures/{result.site.name}_{name}.{language}.pdf"] = drawn
    return with_digests(files)
