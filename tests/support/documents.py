"""What the documents contain: their pages, commands, links and blocks of code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "validation_ch7").glob("*/README.md")),
]
PROGRAMS = ("kaggle-manager", "km")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"^\w+=")


@dataclass(frozen=True)
class Written:
    """A command as it stands on a page; `words` is without a comment and the variables before it."""

    page: Path
    line: str

    @property
    def words(self) -> list[str]:
        words = shlex.split(self.line, comments=True)
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        return words

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}: {self.line}"


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, content in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield content


def commands(page: Path) -> list[Written]:
    """Every command a reader is told to type, in the order of the page."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [written for line in lines if (written := Written(page, line)).words]


def spans(page: Path) -> list[str]:
    """Every piece of code inside a sentence."""
    return _SPAN.findall(prose(page))


def prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8")).replace("\\|", "|")


def links(page: Path) -> list[str]:
    """Targets of links and pictures that are files here, or places on the page."""
    found = re.findall(r"\]\(([^)\s]+)\)", _SPAN.sub("", prose(page))) + re.findall(r"\]\(([^)\s]+)\)", prose(page))
    found += re.findall(r'(?:src|href)="([^"]+)"', prose(page))
    return sorted({target for target in found if not re.match(r"[a-z]+:", target)})


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    seen: dict[str, int] = {}
    found = set()
    for title in re.findall(r"^#+ +(.+?)\s*$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
    return found
