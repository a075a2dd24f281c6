"""docs/images: each picture is shown on a page, is small, and does not say on which machine it was made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import PAGES, ROOT, links

PICTURES = sorted(path for path in (ROOT / "docs/images").iterdir())
MOST_BYTES = 300_000
# Folders of a user or of temporary files, as Linux, macOS and Windows name them.
PLACE_OF_A_MACHINE = re.compile(r"/home/|/root/|/tmp/|/Users/|/var/folders/|[A-Z]:\\")


def shown() -> set[Path]:
    """What the pages lead to; that it exists is held by test_every_link_leads_to_a_file_and_a_heading_that_exist."""
    return {(page.parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(page)}


def test_there_are_pictures() -> None:
    """Or the tests below look at nothing."""
    assert len(PICTURES) > 5


def test_no_picture_is_left_that_no_page_shows() -> None:
    there = shown()
    assert [path.name for path in PICTURES if path.resolve() not in there] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", [path for path in PICTURES if path.suffix == ".svg"], ids=lambda path: path.name)
def test_a_drawn_terminal_names_no_place_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("&#160;", " ")
    assert str(ROOT) not in text
    assert PLACE_OF_A_MACHINE.search(text) is None
