"""What a program is told on every platform, said in Kaggle's place: Kaggle sets no variables for it. Pure."""

from __future__ import annotations

import ast

# A Kaggle that cannot give a session these folders names others. One that has no accelerators may say which it plays.
_TOLD = """\
import os as _os
_os.environ["KM_WORKING_DIR"] = _os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working")
_os.environ["KM_INPUT_DIR"] = _os.environ.get("KAGGLE_INPUT_DIR", "/kaggle/input")
_os.environ["KM_MACHINE_NAME"] = _os.environ.get("KAGGLE_CONTAINER_NAME", "unknown")
if _os.environ.get("KAGGLE_ACCELERATOR_EMULATED") == "1":
    _os.environ["KM_EMULATED_ACCELERATOR"] = _os.environ.get("KAGGLE_ACCELERATOR_FOUND", "")
"""
BYTES = len(_TOLD)


def with_environment(source: str) -> str:
    """The same Python program, which sets first what `SessionRequest.source` is promised.

    Nothing may come before `from __future__`. A program that is no Python stays as it is.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return source
    future = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    lines = source.split("\n")
    at = future[-1].end_lineno or 0 if future else 0
    return "\n".join([*lines[:at], _TOLD, *lines[at:]])
