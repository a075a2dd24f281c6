"""A log is shown as the user's code printed it: no trace of how events are set apart, nothing of the user's lost."""

from __future__ import annotations

import io

import pytest

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.protocol.events import BundleEvent, ProgressEvent, format_event
from kaggle_manager.sessions.log_rendering import show_event, without_event_gaps

TAG = "r/1"
EVENT = format_event(ProgressEvent(step=1, target=2), TAG)
LINE = EVENT.strip()
FOREIGN = format_event(ProgressEvent(step=1, target=2), "q/1")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (f"a\n{EVENT}b\n", ["a", LINE, "b"]),
        (f"..{EVENT}..{EVENT}", ["..", LINE, "..", LINE]),
        (f"a\n\n{EVENT}\nb\n", ["a", "", LINE, "", "b"]),
        (f"{EVENT}{EVENT}", [LINE, LINE]),
        ("\n\na\n\n\n", ["", "", "a", "", ""]),
        (f"a\n{FOREIGN}b\n", ["a", "", FOREIGN.strip(), "b"]),
        ("", []),
    ],
)
def test_only_the_line_end_of_an_event_is_left_out(printed: str, shown: list[str]) -> None:
    assert list(without_event_gaps(printed.split("\n")[:-1], TAG)) == shown


def test_other_code_than_was_built_is_reported() -> None:
    out = io.StringIO()
    show_event(BundleEvent(sha256="a" * 64), Reporter(out), "a" * 64)
    assert "runs code sha256 aaaaaaaaaaaa…" in out.getvalue()
    assert "WARNING" not in out.getvalue()
    show_event(BundleEvent(sha256="b" * 64), Reporter(out), "a" * 64)
    assert "runs other code (bbbbbbbbbbbb…) than was built (aaaaaaaaaaaa…)" in out.getvalue()
