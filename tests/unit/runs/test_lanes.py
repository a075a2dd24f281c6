"""Which runs share a session: as many as there are lanes, in sessions that are full where more come soon."""

from __future__ import annotations

import pytest

from kaggle_manager.runs.lanes import shared_by


@pytest.mark.parametrize(
    ("starting", "lanes", "sessions", "more_come", "expected"),
    [
        ("abc", 1, 2, False, ["a", "b"]),
        ("abc", 1, 2, True, ["a", "b"]),
        ("abcde", 2, 9, False, ["ab", "cd", "e"]),
        ("abcde", 2, 9, True, ["ab", "cd"]),
        ("abcde", 2, 1, False, ["ab"]),
        ("a", 2, 1, True, []),
        ("abc", 2, 0, False, []),
        ("", 2, 1, False, []),
    ],
)
def test_a_session_is_full_or_nobody_else_comes(
    starting: str, lanes: int, sessions: int, more_come: bool, expected: list[str]
) -> None:
    assert ["".join(group) for group in shared_by(starting, lanes, sessions, more_come=more_come)] == expected
