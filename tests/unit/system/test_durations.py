"""One grammar of durations, for options of the manager and of a training."""

from __future__ import annotations

import pytest

from kaggle_manager.system.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("90m", 5400), ("90min", 5400), (" 11H30M ", 41400), ("45", 45), ("1.5h", 5400), ("0", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "soon", "5 parsecs", "-3s", "1h-2m", "h", "nan", "inf", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
