"""A notebook as a script: its code cells, one after the other, and in words what of them is no Python.

Promises: the same text on every machine; outputs, figures and cells of text do not count. What a script can do without
(`%matplotlib inline`) becomes a comment; any other command of notebooks is refused. Standard library only: a session
needs no package for it.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any

SUFFIX = ".ipynb"
# Line magics that change only what a notebook shows, or how it is edited.
_IDLE = re.compile(r"%(matplotlib|config|load_ext|reload_ext|autoreload|tensorboard|xmode|pylab inline)\b")
_INSTALLS = re.compile(r"[!%]\s*(python\s+-m\s+)?(pip|conda|mamba|uv\s+pip)\s+install\b")
_MAGIC = re.compile(r"\s*(%%?|!|\?)\s*\w|\s*[^#\s].*\?\s*$")
_HEAD = "from builtins import print as display  # what a notebook shows, a script prints\n"


class NoScript(ValueError):
    """A notebook that cannot be run as a script; in words."""


def as_python(content: bytes) -> str:
    """The script that a notebook is.

    Raises:
        NoScript: it is no notebook of Python, or has a command that only a notebook can run; names cell and line.
    """
    parts = [_HEAD]
    for number, source in enumerate(_cells(content), 1):
        parts.append(f"\n# %% cell {number}\n{_cell(source, number)}\n")
    return "".join(parts)


def source_of(path: Path) -> bytes:
    """The Python in a file, which may be a notebook.

    Raises:
        NoScript: see `as_python`. OSError: it cannot be read.
    """
    content = path.read_bytes()
    return as_python(content).encode() if path.suffix == SUFFIX else content


def without_outputs(content: bytes) -> bytes:
    """A notebook with nothing in it but its code, for what it showed may be megabytes; itself where it is none."""
    try:
        cells = [{"cell_type": "code", "metadata": {}, "source": source} for source in _cells(content)]
    except NoScript:
        return content
    return (json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, indent=1) + "\n").encode()


def _cells(content: bytes) -> list[str]:
    """The code of each cell that has some."""
    try:
        notebook: Any = json.loads(content)
        language = notebook.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        found = [_text(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NoScript("it is no notebook that can be read") from error
    if str(language).lower() != "python":
        raise NoScript(f"it is a notebook of {language}, and only one of Python can be run")
    return [source for source in found if source.strip()]


def _text(source: Any) -> str:
    return source if isinstance(source, str) else "".join(map(str, source))


def _cell(source: str, number: int) -> str:
    if _is_python(source):
        return source
    lines = [_idle(line) for line in source.splitlines()]
    if _is_python(text := "\n".join(lines)):  # a line of a longer text may begin as a magic does
        return text
    for at, line in enumerate(lines, 1):
        if _MAGIC.match(line):
            raise NoScript(f"cell {number}, line {at}: {_why(line.strip())}")
    raise NoScript(f"cell {number} is no Python that can be read")


def _idle(line: str) -> str:
    """A line; as a comment where it is a magic that a script can do without."""
    code = line.strip()
    return f"{line[: len(line) - len(line.lstrip())]}pass  # {code}" if _IDLE.match(code) else line


def _why(line: str) -> str:
    if _INSTALLS.match(line):
        return f"`{line[:80]}` installs while it runs: pin it in `packages` in section.toml"
    return f"`{line[:80]}` is a command of notebooks, and no Python: write it as Python, or take it out"


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
