"""What a session's code asked for and a session does not have: a module, or a file.

What it is called is all that is known here; whether it is in the project, or a package brings it, the manager knows.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

from kaggle_manager.errors import ScriptFailed
from kaggle_manager.protocol.session_result import Missing
from kaggle_manager.trainer.runtime.as_in_session import PACKAGE, chain

CODE = Path(__file__).resolve().parents[3]
# Some libraries keep an ImportError for later, and raise one of their own with its text.
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
# Of a script the last line of its traceback is known.
_NO_FILE = re.compile(r"FileNotFoundError: .*: '([^'\n]+)'")


def missing_in(error: BaseException, code: Path = CODE) -> Missing | None:
    """What was missing, of an error of the user's code; None where nothing was.

    Args:
        code: the folder that the session's code was unpacked in, in which it began.
    """
    for each in chain(error):
        found = _NO_MODULE.search(str(each))
        name = each.name if isinstance(each, ModuleNotFoundError) else found and found[1]
        if name and name.partition(".")[0] != PACKAGE:
            return Missing(module=name)
        if file := _file_in(each, code):
            path = code / file
            inside = path.is_relative_to(code) and ".." not in path.parts
            return Missing(file=path.relative_to(code).as_posix() if inside else str(path))
    return None


def _file_in(error: BaseException, code: Path) -> str:
    """The file that the user's code did not find; '' for none."""
    if isinstance(error, ScriptFailed):
        found = _NO_FILE.search(error.message)
        return found[1] if found else ""
    is_it = isinstance(error, FileNotFoundError) and _is_of_user(error.__traceback__, code)
    return str(getattr(error, "filename", None) or "") if is_it else ""


def in_words(missing: Missing) -> str:
    """What to do about it, for the log."""
    if missing.module:
        return (
            f"A session has no module {missing.module!r}. If it is a file of the project, add that to `include` in "
            "section.toml; if a package brings it, pin that in `packages`."
        )
    return f"A session has no {missing.file!r}. If it is a file of the project, add it to `include` in section.toml."


def _is_of_user(trace: TracebackType | None, code: Path) -> bool:
    """Whether an error has passed a line of the code that was sent, and this program's own is none of it."""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(code) and path.relative_to(code).parts[0] != PACKAGE:
            return True
        trace = trace.tb_next
    return False
