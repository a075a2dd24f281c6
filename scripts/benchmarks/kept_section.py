"""What a benchmark keeps in docs/robustness_data.md: the text between its own two markers, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/robustness_data.md"


def replace_section(name: str, title: str, lines: Sequence[str], document: Path = DOCUMENT) -> None:
    """Replace what is between the markers of `name`; where they are missing, make the section before "Bugs found"."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = document.read_text(encoding="utf-8")
    if begin not in text:
        before, bugs, after = text.partition("## Bugs found")
        text = f"{before.rstrip()}\n\n{title}\n\n{begin}\n{end}\n\n{bugs}{after}"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    document.write_text("\n".join([before + begin, "", *lines, "", end]) + after, encoding="utf-8")


def commit() -> str:
    """What is measured."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=DOCUMENT.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
