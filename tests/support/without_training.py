"""A pytest plugin for a Python without the training libraries: what needs one of them is skipped, and says which.

    PYTHONPATH=tests/support python -m pytest -p without_training

`scripts/other_pythons.py` runs the suite so. That nothing but the trainer needs them is held by
tests/unit/test_layers.py, which runs there as well.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

_MISSING = re.compile(
    r"[Nn]o module (?:named )?'((?:torch|stable_baselines3|gymnasium|libsumo|sumolib|scipy|matplotlib|jinja2"
    r"|tensorboard|cloudpickle|pandas|sumo_rl)\b[\w.]*)'"
)


def _skipped(report: Any) -> None:
    if report.failed and (missing := _MISSING.search(str(report.longrepr))):
        report.outcome = "skipped"
        report.longrepr = (report.nodeid.partition("::")[0], 0, f"Skipped: needs {missing[1]}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _skipped(report)
    return report
