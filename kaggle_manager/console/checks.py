"""What a preflight found, check by check, in one style wherever it is shown: a line each, and the counts at the end."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.system.formatting import count

WARNS = "WARNING: "
"""What a detail says anywhere in it where its check warns."""
_STYLES = {"ok": "", "WARNING": "yellow", "FAILED": "bold red"}
_WIDTH = max(map(len, _STYLES))
_MOST, _END = 600, 200
"""Characters of a detail that is no failure, and of them at its end, where it says what to do."""


def state_of(check: Mapping[str, Any]) -> str:
    """`ok`, `WARNING` or `FAILED`."""
    return "FAILED" if not check["ok"] else "WARNING" if WARNS in check["detail"] else "ok"


def line_of(check: Mapping[str, Any]) -> str:
    """A check, on one line."""
    state, detail = state_of(check), check["detail"].replace(WARNS, "")
    if check["ok"] and len(detail) > _MOST:
        detail = f"{detail[: _MOST - _END]} ... {detail[-_END:]}"
    return f"{state:<{_WIDTH}} {check['name']}: {detail}"


def show(reporter: Reporter, check: Mapping[str, Any]) -> None:
    """A check: on a terminal in colour and beside its state, elsewhere on one line."""
    line = line_of(check)
    lines = [line]
    if reporter.console.is_terminal:
        lines = textwrap.wrap(
            line,
            max(40, reporter.console.width),
            subsequent_indent=" " * (_WIDTH + 1),
            break_long_words=False,  # a path or an option is to be copied
            break_on_hyphens=False,
        )
    for each in lines:
        reporter.line(each, _STYLES[state_of(check)])


def counted(checks: Sequence[Mapping[str, Any]]) -> str:
    """`12 checks: 10 ok, 2 warnings, none failed`."""
    states = Counter(map(state_of, checks))
    warnings = count(states["WARNING"], "warning") if states["WARNING"] else "no warnings"
    return f"{count(len(checks), 'check')}: {states['ok']} ok, {warnings}, {states['FAILED'] or 'none'} failed"
