"""Nothing passes for a started session that is not exactly the one that was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_manager.errors import AmbiguousPush, BundleTooLarge, CapacityReached, ConfigError, PushMismatch, QuotaError
from kaggle_manager.platforms.kaggle.models import label_of
from kaggle_manager.platforms.kaggle.push_reply import read_push_reply
from kaggle_manager.platforms.platform import SessionRef, SessionRequest

PUSH = SessionRequest("Alice", "km-run", "source")


@pytest.mark.parametrize(
    "reply",
    [
        {"versionNumber": 7},
        {"versionNumber": 7, "ref": "/Alice/km-run", "url": "https://www.kaggle.com/code/alice/km-run"},
        {"versionNumber": 7, "ref": "alice/km-run/7", "kernelId": 12, "error": "", "invalidTags": []},
        {"versionNumber": 7, "url": "http://127.0.0.1:80/code/Alice/km-run?scriptVersionId=9"},
        {"versionNumber": 7, "url": "https://www.kaggle.com/alice/km-run", "error": None},
    ],
)
def test_a_reply_that_is_exactly_right_is_a_session(reply):
    pushed = read_push_reply(PUSH, reply)
    assert pushed.version == SessionRef("Alice", "km-run", "7")
    assert pushed.version.ref == "Alice/km-run/7"
    assert label_of(pushed.version) == "v7"


@pytest.mark.parametrize(
    "key",
    [
        "invalidDatasetSources",
        "invalidKernelSources",
        "invalidCompetitionSources",
        "invalidModelSources",
        "invalidTags",
    ],
)
def test_every_kind_of_dropped_input_is_a_mismatch(key):
    with pytest.raises(PushMismatch, match="alice/gone") as caught:
        read_push_reply(PUSH, {"versionNumber": 7, key: ["alice/gone"]})
    assert caught.value.started == "Alice/km-run/7"


@pytest.mark.parametrize(
    ("url", "started"),
    [
        ("https://www.kaggle.com/code/alice/km-run-2", "alice/km-run-2/7"),
        ("https://www.kaggle.com/code/bob/km-run", "bob/km-run/7"),
    ],
)
def test_another_address_is_a_mismatch(url, started):
    with pytest.raises(PushMismatch) as caught:
        read_push_reply(PUSH, {"versionNumber": 7, "url": url})
    assert caught.value.started == started


@pytest.mark.parametrize("kind", ["GPU", "CPU", "TPU"])
def test_refusals_are_told_apart(kind):
    cases = {
        f"Maximum batch {kind} session count of 2 reached.": CapacityReached,
        f"Maximum weekly {kind} quota of 30.00 hours reached.": QuotaError,
        "Session cannot start because currently running sessions are projected to exceed it": QuotaError,
        "The kernel source must be less than 1 megabytes in size.": BundleTooLarge,
        "Your account needs phone verification": ConfigError,
    }
    for words, error in cases.items():
        with pytest.raises(error) as caught:
            read_push_reply(replace(PUSH, accelerator="NvidiaTeslaT4"), {"error": words, "versionNumber": 7})
        assert type(caught.value) is error
        assert words in caught.value.message


def test_words_about_a_quota_are_a_plain_refusal_of_a_session_on_the_cpu_which_has_none():
    words = "Maximum weekly GPU quota of 30.00 hours reached."
    with pytest.raises(ConfigError) as caught:
        read_push_reply(PUSH, {"error": words})
    assert type(caught.value) is ConfigError
    assert caught.value.message == f"Kaggle refused to start Alice/km-run: {words}"


@pytest.mark.parametrize(
    "reply", [{}, {"versionNumber": 0}, {"versionNumber": None, "url": "x"}, {"versionNumber": "7"}]
)
def test_neither_refusal_nor_version_is_ambiguous(reply):
    with pytest.raises(AmbiguousPush):
        read_push_reply(PUSH, reply)


def test_the_source_is_in_no_repr():
    assert "source=" not in repr(PUSH)
