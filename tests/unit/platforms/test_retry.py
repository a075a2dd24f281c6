"""Waiting is full jitter, honours the server, and ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kaggle_manager.errors import RateLimited, Unavailable
from kaggle_manager.platforms.kaggle.retry import RetryPolicy, parse_retry_after

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
        ("nan", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


def test_pauses_are_spread_over_a_doubling_and_capped_range():
    policy = RetryPolicy(base_s=1, cap_s=30)
    for failures, longest in [(1, 1), (2, 2), (5, 16), (6, 30), (5000, 30)]:
        pauses = [policy.pause_s(failures) for _ in range(2000)]
        assert 0 <= min(pauses) < 0.1 * longest
        assert 0.9 * longest < max(pauses) <= longest


def test_the_server_can_lengthen_a_pause_up_to_a_cap():
    policy = RetryPolicy(retry_after_cap_s=120)
    assert policy.pause_s(1, RateLimited("", retry_after_s=60)) == 60
    assert policy.pause_s(1, Unavailable("", retry_after_s=1e9)) == 120


def test_only_named_errors_are_repeated_and_not_for_ever():
    waits: list[float] = []
    calls = []
    policy = RetryPolicy(attempts=4, sleep=waits.append)

    def fail():
        calls.append(1)
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        policy.run(fail, on=(Unavailable,))
    assert (len(calls), len(waits)) == (4, 3)
    with pytest.raises(Unavailable):
        policy.run(fail, on=(RateLimited,))
    assert len(calls) == 5


def test_progress_makes_patience_new():
    done = 0
    policy = RetryPolicy(attempts=2, sleep=lambda s: None)

    def crawl() -> str:
        nonlocal done
        done += 1
        if done < 50:
            raise Unavailable("cut")
        return "there"

    assert policy.run(crawl, on=(Unavailable,), progress=lambda: done) == "there"
