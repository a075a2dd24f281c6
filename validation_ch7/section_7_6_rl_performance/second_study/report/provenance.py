"""Where the numbers come from: one provenance for every language and format of the report.

Promises: its id is a digest of the declaration, of every kept file and of the code that made tables of them; it holds
no path and no time, so the same data give the same id everywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import scipy

from kaggle_manager.sections.identity import source_digests
from validation_ch7.section_7_6_rl_performance.report.provenance import identifier
from validation_ch7.section_7_6_rl_performance.second_study.contenders import KEPT as DEVELOPMENT
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.second_study.report.around import FIRST_STUDY
from validation_ch7.section_7_6_rl_performance.second_study.report.results import SiteResult
from validation_ch7.section_7_6_rl_performance.training import FOLDER


def describe(kept: Kept, declaration: Declaration, results: Sequence[SiteResult]) -> dict[str, Any]:
    """The provenance of a report."""
    judging = FOLDER / "second_study" / "judging"
    body: dict[str, Any] = {
        "schema": 1,
        "declaration": {"status": declaration.status, "sha256": declaration.sha256},
        "kept": kept.digests(),
        "development": source_digests(DEVELOPMENT, sorted(_names(DEVELOPMENT, "*.json"))),
        "first_study": source_digests(FIRST_STUDY.parent, [FIRST_STUDY.name]),
        "statistics": source_digests(judging, sorted(_names(judging, "*.py"))),
        "simulator": sorted({key["simulator"] for result in results for key in result.keys.values()}),
        "code": sorted({each["code_sha256"] for result in results for of in result.trainings.values() for each in of}),
    }
    return {
        "id": identifier(body),
        **body,
        "written_with": {
            "python": platform.python_version(),
            "matplotlib": matplotlib.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "jinja2": jinja2.__version__,
        },
    }


def _names(folder: Path, pattern: str) -> Iterator[str]:
    return (file.relative_to(folder).as_posix() for file in folder.rglob(pattern))
