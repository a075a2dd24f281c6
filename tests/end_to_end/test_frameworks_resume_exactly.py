"""The examples of docs/scripts.md, each with its real framework: three sessions, one asked to stop and one killed at
random moments, end like one that nobody touched, bit for bit."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from script_sessions import FRAMEWORKS, SIZES, Chain, Sessions, Strike, saving_often, strikes_at_random

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="fork and SIGKILL")]


@pytest.fixture(scope="module", params=sorted(FRAMEWORKS))
def framework(request: pytest.FixtureRequest) -> str:
    for name in FRAMEWORKS[request.param]:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            pytest.skip(f"{request.param}: needs the extra `frameworks`, {name} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def sessions(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    folder = tmp_path_factory.mktemp(framework)
    with Sessions(saving_often(framework, folder), folder / "work", FRAMEWORKS[framework]) as made:
        yield made


@pytest.fixture(scope="module")
def whole(framework: str, sessions: Sessions) -> Chain:
    """One session that nobody touched."""
    return sessions.chain("whole", TARGET=SIZES[framework][0], SEED=3)


def test_three_sessions_with_a_stop_and_a_kill_end_like_an_untouched_one(
    framework: str, sessions: Sessions, whole: Chain
) -> None:
    seed = time.time_ns()
    strikes = strikes_at_random(whole.step, random.Random(seed))
    check(sessions.chain("cut", strikes, TARGET=SIZES[framework][0], SEED=3), whole, strikes)


def test_a_session_that_begins_with_an_epoch_is_no_exception(framework: str, sessions: Sessions, whole: Chain) -> None:
    target, _, epoch = SIZES[framework]
    strikes = [Strike(epoch + 1, signal.SIGKILL), Strike(epoch * 2 + 1, signal.SIGKILL)]
    check(sessions.chain("epochs", strikes, TARGET=target, SEED=3), whole, strikes)


def check(cut: Chain, whole: Chain, strikes: list[Strike]) -> None:
    killed = [-9 if each.number == signal.SIGKILL else 0 for each in strikes]
    assert cut.codes == [*killed, 0], said(cut.folder)
    assert max(cut.steps[:-1]) < cut.step == whole.step, "a session that is told to stop stops"
    stops = [
        (strike, step) for strike, step in zip(strikes, cut.steps, strict=False) if strike.number == signal.SIGTERM
    ]
    assert all(strike.step <= step for strike, step in stops), f"{cut.steps}: it saves what it has done"
    assert cut.difference(whole) == [], strikes


def said(folder: Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in sorted(folder.rglob("said.txt")))
