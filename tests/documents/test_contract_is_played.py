"""docs/contract.md: each assumption about Kaggle has its evidence, its consequence, and a test that is there."""

from __future__ import annotations

import re

import pytest
from documents import ROOT

PAGE = ROOT / "docs/contract.md"
TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
HEAD = ["assumption", "evidence", "if it is wrong", "played by"]


def rows() -> list[list[str]]:
    """The cells of every assumption."""
    found = []
    is_contract = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_contract = False
        elif cells == HEAD:
            is_contract = True
        elif is_contract and set(line) - set("|- "):
            found.append(cells)
    return found


def names_of_tests() -> set[str]:
    files = [*(ROOT / "tests").rglob("test_*.py")]
    return {path.name for path in files} | {
        name for path in files for name in TEST.findall(path.read_text(encoding="utf-8"))
    }


def test_there_is_a_contract() -> None:
    assert len(rows()) > 50


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:50])
def test_each_assumption_says_what_it_rests_on_and_what_happens_where_it_is_wrong(row: list[str]) -> None:
    assert len(row) == len(HEAD)
    assert all(row)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:50])
def test_each_assumption_is_played_by_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+(?:\.py)?)`", row[-1])
    assert named, "none is named"
    assert set(named) <= names_of_tests()
