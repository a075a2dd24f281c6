"""A notebook as the script that runs its cells from top to bottom.

Shell lines (`!command`) run in a shell. Line magics other than `%pip` are skipped with a note in the log; a cell magic
cannot be honoured and stops the run where it stands. Outputs of expressions are not shown: a kernel speaks through its
log and its files.
"""

from __future__ import annotations

import json

from kaggle_manager.local_kaggle.serialization import bad_request

_SHELL = "__import__('subprocess').run({!r}, shell=True, check=False)"
_NOTE = "__import__('sys').stderr.write({!r})"
_STOP = "raise SystemExit({!r})"


def as_script(text: str) -> str:
    """The Python script for the notebook in `text` (nbformat 4 JSON)."""
    try:
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request("The notebook is not valid JSON in notebook format 4.") from error
    return "\n\n".join(_cell(source) for source in sources) + "\n"


def _cell(source: str) -> str:
    if source.lstrip().startswith("%%"):
        magic = source.split(maxsplit=1)[0]
        return _STOP.format(f"The local Kaggle cannot run a cell with {magic}.")
    try:
        compile(source, "cell", "exec")
    except SyntaxError:
        return "\n".join(_line(line) for line in source.split("\n"))
    return source  # Plain Python is left alone: a line of it may well begin with % or !.


def _line(line: str) -> str:
    code = line.lstrip()
    indent = line[: len(line) - len(code)]
    if code.startswith("!"):
        return indent + _SHELL.format(code[1:].strip())
    if code.startswith("%pip "):
        return indent + _SHELL.format(code[1:].strip())
    if code.startswith("%"):
        return indent + _NOTE.format(f"Skipped: {code}\n")
    return line
