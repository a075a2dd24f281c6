"""A notebook as a script: its code cells, one after the other, and in words what of them is no Python.

Promises: the same text on every machine; outputs, figures and cells of text do not count. What a script can do without
(`%matplotlib inline`) becomes a comment; any other command of notebooks is refused. Standard library only: a session
needs no package for it.
"""

from __future__ import annotations

import json
import re
import tokenize
import warnings
from pathlib import Path
from typing import Any

SUFFIX = ".ipynb"
# Line magics that change only what a notebook shows, or how it is edited.
_IDLE = re.compile(r"%(matplotlib|config|load_ext|reload_ext|autoreload|tensorboard|xmode|pylab inline)\b")
_INSTALLS = re.compile(r"([!%]\s*)*(python\s+-m\s+)?(pip|conda|mamba|uv\s+pip)\s+install\b")
# Where a statement of Python begins, IPython knows its commands by these; none of them begins one of Python.
_COMMAND = re.compile(r"[!%?,;/]|[*\w][\w.*\[\]]*\?\??\s*$")
_ASSIGNED = re.compile(r"!|%\s*[A-Za-z_]")
_FUTURE = re.compile(r"from\s+__future__\s")
_HEAD = "from builtins import print as display  # what a notebook shows, a script prints\n"


class NoScript(ValueError):
    """A notebook that cannot be run as a script; in words."""


def as_python(content: bytes) -> str:
    """The script that a notebook is.

    Raises:
        NoScript: it is no notebook of Python, or has a command that only a notebook can run; names cell and line.
    """
    futures: list[str] = []
    parts = [
        f"\n# %% cell {number}\n{_cell(source, number, futures)}\n" for number, source in enumerate(_cells(content), 1)
    ]
    return "".join([*futures, _HEAD, *parts])


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


def _cell(source: str, number: int, futures: list[str]) -> str:
    """A cell as Python; what it imports of `__future__`, which a script has at its beginning, is added to `futures`."""
    lines, told, at = _unindented(source), [], 0
    while at < len(lines):
        length, command = _statement(lines[at:])
        first, rest = lines[at], lines[at + 1 : at + length]
        code = first.strip()
        if not command and _FUTURE.match(first):
            futures.append("\n".join([first, *rest, ""]))
        elif command and not _IDLE.match(code):
            raise NoScript(f"cell {number}, line {at + 1}: {_why(command, code)}")
        if command or _FUTURE.match(first):  # a comment in its place: lines keep their numbers
            first = f"{first[: len(first) - len(first.lstrip())]}pass  # {code}"
            rest = [f"# {line}" for line in rest]
        told += [first, *rest]
        at += length
    text = "\n".join(told)
    if mistake := _mistake(text):
        line = told[min(mistake, len(told)) - 1].strip()
        raise NoScript(f"cell {number}, line {mistake}: {_why(line, line)}")
    return text


def _unindented(source: str) -> list[str]:
    """Its lines, without the indentation that its first one has."""
    lines = source.replace("\r\n", "\n").split("\n")
    first = next(line for line in lines if line.strip())
    return [line.removeprefix(first[: len(first) - len(first.lstrip())]) for line in lines]


def _statement(lines: list[str]) -> tuple[int, str]:
    """How many lines the statement has that begins here, and what of it is a command of IPython: '' for nothing."""
    begin = lines[0].strip()
    if _COMMAND.match(begin):
        return _continued(lines), begin
    feed, depth, is_assigned = (f"{line}\n" for line in lines), 0, False
    try:
        for token in tokenize.generate_tokens(lambda: next(feed, "")):
            if token.type == tokenize.NEWLINE or (token.type == tokenize.NL and not depth):
                return token.start[0], ""
            if token.type == tokenize.OP:
                depth += (token.string in "([{") - (token.string in ")]}")
            if token.string == "=" and not depth and not is_assigned:
                is_assigned, (row, column) = True, token.end
                if _ASSIGNED.match(command := lines[row - 1][column:].strip()):
                    return row - 1 + _continued(lines[row - 1 :]), command
    except (tokenize.TokenError, SyntaxError):  # that it is no Python is said with its line
        pass
    return len(lines), ""


def _continued(lines: list[str]) -> int:
    """How many lines a command of IPython has: one, and those after a backslash."""
    return next((number for number, line in enumerate(lines, 1) if not line.endswith("\\")), len(lines))


def _why(command: str, line: str) -> str:
    if _INSTALLS.match(command):
        return f"`{line[:80]}` installs while it runs: pin it in `packages` in section.toml"
    if _COMMAND.match(command) or _ASSIGNED.match(command) or command.endswith("?"):
        return f"`{line[:80]}` is a command of notebooks, and no Python: write it as Python, or take it out"
    return f"`{line[:80]}` is no Python that a script can have"


def _mistake(text: str) -> int:
    """The line at which it is no Python; 0: it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "cell", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1
    return 0
