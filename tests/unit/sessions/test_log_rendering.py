"""A log is shown as the user's code printed it and events in words: no trace of how they are set apart."""

from __future__ import annotations

import io

import pytest

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.protocol.events import BundleEvent, ProgressEvent, ResumeEvent, format_event
from kaggle_manager.sessions.log_rendering import show_event, to_read

TAG = "r/1"
EVENT = format_event(ProgressEvent(step=1, target=2), TAG)
LINE = "step 1/2"
SILENT = format_event(ResumeEvent(step=1, target=2), TAG)  # the trainer prints what it says beside it
FOREIGN = format_event(ProgressEvent(step=1, target=2), "q/1")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"a\n{EVENT}b\n", ["a", LINE, "b"]),
        (f"..{EVENT}..{EVENT}", ["..", LINE, "..", LINE]),
        (f"a\n\n{EVENT}\nb\n", ["a", "", LINE, "", "b"]),
        (f"{EVENT}{EVENT}", [LINE, LINE]),
        (f"a\n{SILENT}b\n", ["a", "b"]),
        ("\n\na\n\n\n", ["", "", "a", "", ""]),
        (f"a\n{FOREIGN}b\n", ["a", "", FOREIGN.strip(), "b"]),
        ("", []),
    ],
)
def test_events_are_in_words_and_nothing_of_the_users_is_left_out(printed: str, shown: list[str]) -> None:
    assert list(to_read(printed.split("\n")[:-1], TAG)) == shown


def test_other_code_than_was_built_is_reported() -> None:
    out = io.StringIO()
    show_event(BundleEvent(sha256="a" * 64), Reporter(out), "a" * 64)
    assert "runs code sha256 aaaaaaaaaaaa…" in out.getvalue()
    assert "WARNING" not in out.getvalue()
    show_event(BundleEvent(sha256="b" * 64), Reporter(out), "a" * 64)
    assert "runs other code (bbbbbbbbbbbb…) than was built (aaaaaaaaaaaa…)" in out.getvalue()
