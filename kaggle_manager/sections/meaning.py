"""What a file means, whatever it looks like: the bytes that its fingerprint is made of.

Promises: equal on every machine and Python version from 3.11; Python is its syntax tree, so that comments, docstrings,
blank lines and the breaking of lines do not count; text is blind to a byte order mark and to line ends; any other file
is its bytes. Never imports or runs what it reads.
"""

from __future__ import annotations

import ast
import codecs
import warnings
from functools import lru_cache
from typing import Any

from kaggle_manager.sections import notebook

# Of a syntax tree, what says nothing more: `u` before a string, comments with types, whether a name is read or written.
_UNSAID = frozenset({"kind", "type_comment", "ctx"})


class _Mark(str):
    """Text of the result itself, which no constant of a program can be taken for."""

    __slots__ = ()


def meaning_of(name: str, content: bytes) -> bytes:
    """The meaning of a file with this name and these bytes.

    Raises:
        SyntaxError, ValueError: it is called `.py`, and this Python cannot read it as Python.
    """
    if name.endswith(".py"):
        return _of_python(content)
    if name.endswith(notebook.SUFFIX):
        return _of_python(notebook.as_python(content).encode())
    text = text_of(content)
    return content if text is None else text.encode()


def text_of(content: bytes) -> str | None:
    """A file as text with `\\n` for every line end, without a byte order mark; None when it is no text in UTF-8."""
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.replace("\r\n", "\n").replace("\r", "\n")


@lru_cache(maxsize=256)  # a run asks ten times what its sources say, in case one was edited meanwhile
def _of_python(content: bytes) -> bytes:
    """The syntax tree as text. `ast.dump` is another in each version of Python, and recursive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape sequence in the user's code is no concern of this program
        todo: list[Any] = [ast.parse(content)]
    said: list[str] = []
    while todo:
        item = todo.pop()
        if isinstance(item, _Mark):
            said.append(item)
        elif isinstance(item, ast.AST):
            todo.append(_Mark(")"))
            for field, value in reversed(list(ast.iter_fields(item))):
                if isinstance(value, list):
                    value = [each for each in value if not _says_nothing(each, item)]
                # What is absent is left out: a later Python has fields that an earlier one does not know.
                if field not in _UNSAID and value is not None and value != []:
                    todo += [value, _Mark(f"{field}=")]
            said.append(f"{type(item).__name__}(")
        elif isinstance(item, list):
            todo += [_Mark("]"), *reversed(item)]
            said.append("[")
        else:
            said.append(ascii(item))  # `repr` depends on the characters that a version of Python knows
    return " ".join(said).encode("ascii")


def _says_nothing(node: Any, parent: ast.AST) -> bool:
    """Whether a program is the same without it: a docstring, another constant on its own, `pass`.

    Python 3.12 puts empty strings between the fields of an f-string.
    """
    if isinstance(parent, ast.JoinedStr):
        return isinstance(node, ast.Constant) and node.value == ""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant or isinstance(node, ast.Pass)
