"""What a preflight found looks the same wherever it is shown: aligned, with warnings that stand out, and counted."""

from __future__ import annotations

import io

from rich.console import Console

from kaggle_manager.console.checks import counted, line_of, show
from kaggle_manager.console.reporter import Reporter

OK = {"name": "mine: resets", "ok": True, "detail": "200 random actions"}
WARNS = {"name": "mine: fits", "ok": True, "detail": "4 GB; WARNING: that is much"}
FAILED = {"name": "mine: saves", "ok": False, "detail": "WARNING: slow; nothing was saved"}


def test_the_lines_are_aligned_and_say_once_that_they_warn() -> None:
    assert [line_of(check) for check in (OK, WARNS, FAILED)] == [
        "ok      mine: resets: 200 random actions",
        "WARNING mine: fits: 4 GB; that is much",
        "FAILED  mine: saves: slow; nothing was saved",
    ]


def test_the_counts_come_at_the_end() -> None:
    assert counted([OK, WARNS, OK, FAILED]) == "4 checks: 2 ok, 1 warning, 1 failed"
    assert counted([OK]) == "1 check: 1 ok, no warnings, none failed"


def test_a_long_detail_keeps_its_beginning_and_what_to_do_and_a_failure_all_of_it() -> None:
    long = {"name": "n", "ok": True, "detail": "a" + "x" * 5000 + "add it to include"}
    assert len(line_of(long)) < 650
    assert line_of(long).startswith("ok      n: ax")
    assert line_of(long).endswith("add it to include")
    assert len(line_of(long | {"ok": False})) > 5000


def test_a_terminal_shows_it_in_colour_beside_its_state_and_a_pipe_on_one_line() -> None:
    long = WARNS | {"detail": "WARNING: " + "word " * 40}
    show(Reporter(plain := io.StringIO()), long)
    assert len(plain.getvalue().splitlines()) == 1
    assert "\x1b" not in plain.getvalue()
    reporter = Reporter(terminal := io.StringIO())
    reporter.console = Console(file=terminal, force_terminal=True, width=60, color_system="standard", soft_wrap=True)
    show(reporter, long)
    first, *others = terminal.getvalue().splitlines()
    assert "\x1b[33m" in first
    assert "WARNING mine: fits" in first
    assert others
    assert all(" " * 8 + "word" in line for line in others)
