"""Pages, help and messages are plain English: phrases that made readers stop do not come back.

What to write instead is in docs/architecture.md, "Words for writing".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import PAGES, ROOT

# As regular expressions, in any case; a space is any white space.
NOT_WRITTEN = (
    "have nobody wait for it",
    "session after session",
    "the same line (again )?goes on after",
    "the whole circle",
    "so many (training )?seeds",
    "each with its own tree",
    "looks? at everything a run depends on",
    "what vouches for them",
    "says something that cannot be done",
    "this machine refused",
    "give back the (permission|room)",
    "last word",
    "still calls? it running: what",
    "is fetched all the same",
    "a person is needed",
    "preflight .{0,40}does not hold",
    "trainer's search finds",
    "asks? no platform",
    "let no session follow",
    "takes? up a run|runs? (was )?taken up|takes a run up",
    "\\bmend (what|the cause|it)\\b",
    "of what was expected",
    "words ask for",
    "if you trust whoever",
)
FOUND = re.compile("|".join(NOT_WRITTEN).replace(" ", r"\s+"), re.IGNORECASE)
# The word list itself.
EXPLAINED = "Words for writing"


def written(path: Path) -> Iterator[str]:
    """The prose of a page; the strings of a module, the docstrings of commands among them."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield text.partition(EXPLAINED)[0]
    else:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def files() -> list[Path]:
    return [*PAGES, *sorted((ROOT / "kaggle_manager").rglob("*.py")), *sorted((ROOT / "scripts").glob("*.py"))]


def test_no_page_and_no_message_has_such_a_phrase() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {' '.join(hit[0].split())}"
        for path in files()
        for text in written(path)
        for hit in FOUND.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["This machine refused: full disk", "Train it,\nsession after\nsession."])
def test_a_phrase_is_found_in_any_case_and_over_lines(text: str) -> None:
    assert FOUND.search(text)
